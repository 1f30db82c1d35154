"""Pumps bytes between a connection's standard streams and a job's socket, in one thread that nothing can hold up.

Both directions end with the job's socket. When standard input ends, the control side is gone; the job is not told to stop.
"""

from __future__ import annotations

import os
import select
import socket
import time

_PIECE = 1 << 16
_HELD = 1 << 20  # bytes that wait for a slow reader; while there are more, nothing is read
_PATIENCE = 60.0  # seconds that the last bytes may take to leave; the connection is dead then


def relay(job: socket.socket, source: int = 0, sink: int = 1) -> None:
    """Until the job's side ends, or the other."""
    job.setblocking(False)
    os.set_blocking(sink, False)
    to_job, to_sink = bytearray(), bytearray()
    reading = True  # from the job
    until = 0.0
    while reading or to_sink:
        poll = select.poll()
        if reading:
            inwards = select.POLLIN if len(to_sink) < _HELD else 0
            poll.register(job, inwards | (select.POLLOUT if to_job else 0))
            if len(to_job) < _HELD:
                poll.register(source, select.POLLIN)
        poll.register(sink, select.POLLOUT if to_sink else 0)  # a reader that is gone is told in any case
        for fd, events in poll.poll(1000.0):
            if fd == sink and events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                return
            if fd == sink:
                _write(sink, to_sink)
            elif fd == source:
                piece = os.read(source, _PIECE)
                if not piece:
                    return
                to_job += piece
            else:
                if events & select.POLLOUT:
                    _send(job, to_job)
                if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    heard = _receive(job)
                    to_sink += heard or b""
                    if heard == b"":
                        reading, until = False, time.monotonic() + _PATIENCE
        if not reading and time.monotonic() > until:
            return


def _write(sink: int, data: bytearray) -> None:
    try:
        del data[: os.write(sink, data[:_PIECE])]
    except BlockingIOError:
        return


def _send(job: socket.socket, data: bytearray) -> None:
    try:
        del data[: job.send(data[:_PIECE])]
    except BlockingIOError:
        return
    except OSError:  # it ends: what it said before is read yet
        data.clear()


def _receive(job: socket.socket) -> bytes | None:
    """None: nothing yet. Empty: the end."""
    try:
        return job.recv(_PIECE)
    except BlockingIOError:
        return None
    except OSError:
        return b""

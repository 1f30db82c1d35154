"""The process of a long job: the engine, a journal of what it says, and one connection at a time to whoever asks.

The engine is never held up by a connection: what it says goes into a queue, from there into the journal, and each connection has a
thread of its own that sends from the journal. Stages, notes and the end are kept; progress is told to whoever listens just then.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
import traceback
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import msgspec

from torpor.errors import HostFailed, Interrupted, StorageUnavailable, TorporError
from torpor.events import Event
from torpor.jobs import Ask, Grant, decode_job
from torpor.remote.connection import Connection
from torpor.remote.protocol import Line, Reply, grant_of
from torpor.workspace.crew import Gate

KEPT = 4 << 20  # bytes of the journal; notes beyond are dropped, so that a job that complains for days fills no disk
BRIEF = 120.0  # seconds for an answer that the job can do without for now
_LAST = 30.0  # seconds for the last lines to leave by the connection; they are in the journal
_STEP = 0.5  # seconds between looks at what may have changed without a word

_encoder = msgspec.json.Encoder()


class Ledger:
    """What the job has said and asked. `wait`: seconds for which a question that the job needs answered waits for somebody to come.

    `lines` is the journal, opened for appending.
    """

    def __init__(self, lines: int, wait: float) -> None:
        self.gate = Gate()
        self.said: list[bytes] = []  # each with its number
        self.progress: dict[str, tuple[int, bytes]] = {}  # newest of each stage, and when in the order of all
        self.asked: dict[int, bytes] = {}
        self.over = False
        self._fd = lines
        self._wait = wait
        self._size = 0
        self._order = 0
        self._number = 0
        self._replies: dict[int, Reply] = {}
        self._stopping = threading.Event()
        self._given_up = False  # nobody came for one question, so none waits again until somebody does
        self._connection: Connection | None = None
        self._changed = time.monotonic()
        self._queue: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    # The engine's side: any thread, and the main one may be interrupted by a signal anywhere.

    def hear(self, event: Event) -> None:
        self._queue.put(Line(event=event))

    def ask(self, wish: Ask) -> Grant:
        """Ask whoever is connected. Raises `StorageUnavailable` if nobody answers in time."""
        with self.gate:
            self._number += 1
            number = self._number
            self.asked[number] = _encoder.encode(Line(ask=wish, number=number)) + b"\n"
            self.gate.notify_all()
            began = time.monotonic()
            try:
                while number not in self._replies:
                    if time.monotonic() > self._until(wish, began):
                        self._given_up = self._given_up or wish.needed
                        raise _unanswered()
                    self.gate.wait(_STEP)
                return grant_of(self._replies[number], number)
            finally:
                self.asked.pop(number, None)
                self._replies.pop(number, None)

    def _until(self, wish: Ask, began: float) -> float:
        """How long to wait for an answer, by the monotonic clock. With nobody there, only for what is needed."""
        if self._connection is None and (self._stopping.is_set() or self._given_up or not wish.needed):
            return 0.0
        return max(began, self._changed) + self._wait if wish.needed else began + BRIEF

    def stop(self) -> None:
        """The job was told to end: questions that nobody hears are not worth waiting for. For a signal's handler."""
        self._stopping.set()

    def end(self, line: Line) -> None:
        """The last line. Returns once it is in the journal and has left by the connection, if there is one."""
        self._queue.put(line)
        self._queue.put(None)
        self._writer.join()
        with self.gate:
            connection = self._connection
        if connection is not None:
            connection.join(_LAST)

    # The connections' side.

    def take(self, connection: Connection) -> None:
        """This connection is served from now on, and the one before is not."""
        with self.gate:
            before, self._connection = self._connection, connection
            self._given_up = False
            self._changed = time.monotonic()
            if before is not None:
                before.leave()
            self.gate.notify_all()

    def lost(self, connection: Connection) -> None:
        with self.gate:
            if self._connection is connection:
                self._connection = None
                self._changed = time.monotonic()
            self.gate.notify_all()

    def answer(self, connection: Connection, reply: Reply) -> None:
        """A reply to what nobody asks any more is dropped, and so is one by a connection that was left."""
        with self.gate:
            if self._connection is connection and reply.number in self.asked:
                self._replies[reply.number] = reply
                self.gate.notify_all()

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            event = line.event
            with self.gate:
                if event is not None and event.kind == "progress":
                    self._order += 1
                    self.progress[event.stage] = self._order, _encoder.encode(line) + b"\n"
                elif event is None or event.kind != "note" or self._size < KEPT:
                    if event is not None and event.state == "ended":
                        self.progress.pop(event.stage, None)
                    line.number = len(self.said) + 1
                    data = _encoder.encode(line) + b"\n"
                    self._keep(data)
                    self.said.append(data)
                self.gate.notify_all()
        with self.gate:
            self.over = True
            self.gate.notify_all()

    def _keep(self, data: bytes) -> None:
        """Into the journal. A disk that is full costs what can be told later, not the job."""
        self._size += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            return


def _unanswered() -> StorageUnavailable:
    return StorageUnavailable(
        "Nobody answered the host's question for more requests to the store.",
        safe="What reached the store is kept; nothing was destroyed.",
        remedy="Run the command again: it goes on from there.",
    )


class Door:
    """Lets connections in, on a thread of its own."""

    def __init__(self, listening: socket.socket, ledger: Ledger) -> None:
        self._socket = listening
        self._ledger = ledger
        threading.Thread(target=self._serve, name="door", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            Connection(client, self._ledger)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the waiting for the next one
        self._socket.close()


def run(text: bytes, lines: int, listening: socket.socket, wait: float) -> int:
    """Do the job of this text, in this process; its exit code is returned. The main thread alone may call."""
    ledger = Ledger(lines, wait)

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        ledger.stop()
        raise Interrupted(f"The job was stopped by {signal.Signals(number).name}.")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    door = Door(listening, ledger)
    last, code = _run(text, ledger)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    door.close()
    ledger.end(last)
    return code


def _run(text: bytes, ledger: Ledger) -> tuple[Line, int]:
    from torpor.remote import engine

    try:
        job = decode_job(text)
        del text
        result = engine.run(job, ledger.hear, ledger.ask)
        return Line(result=msgspec.Raw(msgspec.json.encode(result))), 0
    except TorporError as error:
        return Line(failure=error.as_dict()), error.exit_code
    except BaseException as error:  # noqa: BLE001 - it has nobody else to go to
        traceback.print_exc()
        failed = HostFailed(
            f"The host's engine failed in a way that nobody foresaw: {type(error).__name__}.",
            safe="What reached the store is kept; nothing was destroyed.",
            remedy="Run the command again: it goes on from there. If it fails again, this is a defect of torpor.",
        )
        return Line(failure=failed.as_dict()), failed.exit_code

"""The engine's end of the GPU: slots of shared memory, batches sent to the child process, and its end when anything is wrong.

A thread owns a slot, fills it and calls `code`, which waits. What waits while the child is busy becomes the next batch, so batches are
as large as the GPU is slow. Whatever goes wrong (an error on the device, its memory in use, a hang, a death, an impossible answer) closes
the lane for good: the child is killed, and every `code` under way or to come answers None, upon which the caller does it on the CPU.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from mmap import MAP_SHARED, mmap
from pathlib import Path
from typing import TYPE_CHECKING

from torpor.format.version import CHUNK_MAX
from torpor.gpu import protocol
from torpor.gpu.protocol import DEPTH, READY, SIZE, SLOT, Batch, Row

if TYPE_CHECKING:
    import subprocess

START = 60.0  # seconds the child may take until it is ready: it may have to compile the kernels
ANSWER = 20.0  # seconds a batch may take
_LOOK = 0.1  # seconds between two looks at deadlines
_GONE = 5.0  # seconds a killed process may take to go

COMMAND = (sys.executable, "-m", "torpor.gpu.child")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PREFIXES = ("CUDA_", "CUPY_", "NVIDIA_")


class _Wish:
    """A chunk that a thread waits for."""

    __slots__ = ("kind", "result", "row", "settled")

    def __init__(self, kind: int, row: Row) -> None:
        self.kind = kind
        self.row = row
        self.result: Row | None = None
        self.settled = False


class _Sent:
    """A batch with the child, and when it must have answered."""

    __slots__ = ("until", "wishes")

    def __init__(self, wishes: list[_Wish]) -> None:
        self.wishes = wishes
        self.until = time.monotonic() + ANSWER


class Speed:
    """What the lane has done: all raw bytes and the child's processor time for them; and how fast it was when it had all it takes.

    `began`: the processor time of its start. Times in seconds.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.began = 0.0
        self.spent = 0.0
        self.full_bytes = 0
        self.full_seconds = 0.0

    @property
    def rate(self) -> float | None:
        """Bytes a second, from memory to memory; None before it was ever given all it takes."""
        return self.full_bytes / self.full_seconds if self.full_seconds else None


class Lane:
    """`ready` is called once, on the lane's own thread, when the child is there; `failed`, with what to tell people, on any."""

    def __init__(self, slots: int, ready: Callable[[], None], failed: Callable[[str], None], command: Sequence[str] | None = None) -> None:
        self.slots = slots
        self.speed = Speed()
        self._ready = ready
        self._failed = failed
        self._command = list(command or COMMAND)
        self._condition = threading.Condition()
        self._open = False
        self._ended = False
        self._given_back = False
        self._waiting: list[_Wish] = []
        self._sent: dict[int, _Sent] = {}
        self._count = 0
        self._limit = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._last = 0.0  # when the child answered last, if it has had all it takes since; else 0
        self._channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as undo:
            for end in (self._channel, self._theirs):
                undo.callback(end.close)
            self._fd = os.memfd_create("torpor-gpu")
            undo.callback(os.close, self._fd)
            os.ftruncate(self._fd, slots * SLOT)
            self._words = os.memfd_create("torpor-gpu-errors")  # what the child says last; a pipe might fill up and stop it
            undo.callback(os.close, self._words)
            self._memory = mmap(self._fd, slots * SLOT, MAP_SHARED)
            undo.pop_all()
        self._view = memoryview(self._memory)
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        """Start the child; this returns at once."""
        self._thread.start()

    @property
    def open(self) -> bool:
        """Whether it takes chunks."""
        return self._open

    @property
    def pid(self) -> int:
        """The child's; 0 without one."""
        return self._process.pid if self._process is not None else 0

    @property
    def gone(self) -> bool:
        """Whether its memory was given back."""
        return self._memory.closed

    def raw(self, slot: int) -> memoryview:
        return self._view[slot * SLOT :][:CHUNK_MAX]

    def coded(self, slot: int) -> memoryview:
        return self._view[slot * SLOT + CHUNK_MAX :][:CHUNK_MAX]

    def code(self, kind: int, row: Row) -> Row | None:
        """Let the child work on a slot that the caller filled. None: the lane is closed; the slot may hold anything."""
        wish = _Wish(kind, row)
        with self._condition:
            if not self._open:
                return None
            self._waiting.append(wish)
            self._send()
            while not wish.settled:
                self._condition.wait()
        return wish.result

    def close(self, why: str = "") -> bool:
        """Take no more; end the child; let those who wait go on. With `why`, tell it. From any thread; False if it was closed before."""
        with self._condition:
            if self._ended:
                return False
            self._ended = True
            self._open = False
        self._kill()
        with self._condition:
            for wish in [*self._waiting, *(wish for sent in self._sent.values() for wish in sent.wishes)]:
                wish.settled = True
            self._waiting.clear()
            self._sent.clear()
            self._condition.notify_all()
        if why:
            self._failed(why)
        return True

    def join(self) -> None:
        """After `close`: wait for the lane's thread, give descriptors and memory back; what is still looked at goes with the look."""
        if self._thread.ident is not None:
            self._thread.join()
        self._channel.close()
        self._theirs.close()
        for fd in (self._fd, self._words) if not self._given_back else ():
            os.close(fd)
        self._given_back = True
        with suppress(BufferError):
            self._view.release()
            self._memory.close()

    def _kill(self) -> None:
        """End the child, so that neither it nor its device writes into slots any more."""
        import subprocess

        process = self._process
        if process is None:
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # stuck in the driver: whoever uses a slot again looks at ids
            process.wait(_GONE)

    def _send(self) -> None:
        """Under the lock: give the child what waits, as far as it takes it."""
        while self._waiting and len(self._sent) < DEPTH and self._open:
            kind = self._waiting[0].kind
            wishes = [wish for wish in self._waiting if wish.kind == kind][: self._limit]
            batch = Batch(kind, self._count, [wish.row for wish in wishes])
            self._waiting = [wish for wish in self._waiting if wish not in wishes]
            self._sent[self._count] = _Sent(wishes)
            self._count += 1
            with suppress(OSError):  # it is gone, which the lane's thread is about to see
                self._channel.send(protocol.pack(batch), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _run(self) -> None:
        why = "its thread met a defect of torpor"
        try:
            why = self._serve()
        except (OSError, ValueError, RuntimeError) as error:  # no process, an impossible answer, no threads to be had
            why = f"{type(error).__name__}: {error}"
        finally:
            self.close(why)  # whatever it was, nobody waits for ever

    def _serve(self) -> str:
        """Until the lane is closed; why, if that was not asked for."""
        self._start()
        until = time.monotonic() + START
        self._channel.settimeout(_LOOK)
        while not self._ended:
            try:
                message = self._channel.recv(SIZE)
            except TimeoutError:
                with self._condition:
                    first = min((sent.until for sent in self._sent.values()), default=None)
                if time.monotonic() > (until if not self._open else first if first is not None else float("inf")):
                    return "it did not answer in time"
                continue
            except ConnectionError:
                message = b""
            if not message:
                return self._last_words()
            self._take(protocol.unpack(message, self.slots))
        return ""

    def _start(self) -> None:
        import subprocess

        environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PREFIXES)}
        # torpor itself is found where this one was, and so are packages that are not in the interpreter's own folders.
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
        fds = (self._theirs.fileno(), self._fd)
        with self._condition:
            if self._ended:
                return
            self._process = subprocess.Popen(
                [*self._command, *map(str, fds)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._words,
                env=environment, pass_fds=fds, start_new_session=True,
            )  # fmt: skip
        self._theirs.close()

    def _last_words(self) -> str:
        """The child's last line of error."""
        if self._process is None:
            return "it was not there"
        import subprocess

        try:
            code = self._process.wait(_GONE)
        except subprocess.TimeoutExpired:
            return "it fell silent"
        size = os.fstat(self._words).st_size
        lines = os.pread(self._words, 4096, max(0, size - 4096)).decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"it ended with exit code {code}"

    def _take(self, batch: Batch) -> None:
        now = time.monotonic()
        if batch.kind == READY:
            if self._open or not 0 < batch.limit <= protocol.BATCH_MAX:
                raise ValueError("an impossible answer")
            with self._condition:
                self._limit = batch.limit
                self._open = not self._ended
                self.speed.began = batch.spent / 1e9
            if self._open:
                self._ready()
            return
        with self._condition:
            sent = self._sent.pop(batch.number, None)
            asked = [wish.row._replace(coded=0, state=0) for wish in sent.wishes] if sent is not None else None
            if sent is None or [row._replace(coded=0, state=0) for row in batch.rows] != asked:
                if sent is not None:
                    self._sent[batch.number] = sent  # so that its threads are woken
                raise ValueError("an answer to another question")
            size = sum(row.raw for row in batch.rows)
            self._count_speed(size, batch.spent / 1e9, now)
            for wish, row in zip(sent.wishes, batch.rows, strict=True):
                wish.result, wish.settled = row, True
            self._send()
            if len(self._sent) < DEPTH:
                self._last = 0.0
            self._condition.notify_all()

    def _count_speed(self, size: int, spent: float, now: float) -> None:
        speed = self.speed
        speed.bytes += size
        speed.spent = spent - speed.began
        if self._last:
            speed.full_bytes += size
            speed.full_seconds += now - self._last
        self._last = now

"""Long jobs that this computer began on machines: kept until they are dealt with, so that another process can follow them.

<home>/jobs/<key>-<kind>.json    what it takes to follow a job and to use its result; no keys and no grants. `key`: the repository, the
                                 machine's address, the workspace. Whoever drives a job of either kind, by whatever way, locks the key.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import msgspec

from torpor.clock import rfc3339
from torpor.control.repository import Repository
from torpor.errors import Interrupted, MachineError, TorporError
from torpor.events import Event, Listener
from torpor.format.manifest import Claim
from torpor.format.untrusted import BROKEN
from torpor.remote.host import Addressed, Host, Lasting

RECENT = 3600.0  # seconds since somebody followed it; what ended before that tells of a workspace that may be another by now
_SEEN = 60.0  # seconds between notes of that


class Ongoing(msgspec.Struct, kw_only=True):
    """One job. `name` as the host knows it; `wanted`: digest of all that was asked for; `seen`: when it was followed last.

    Of a snapshot: what its commit needs. `revocations`: of grants that its job was given (`Store.revocation`).
    """

    name: str
    wanted: str
    begun: float
    seen: float
    claim: Claim | None = None
    attempt: str = ""
    parents: list[str] = []
    allowed: dict[str, int] = {}
    revocations: list[str] = []


class Slot:
    """The place of one workspace's job. Of a host whose jobs end with their connection it keeps nothing.

    A note goes only when the job is known to be gone: somebody would begin it a second time beside the first.
    """

    def __init__(self, repository: Repository, host: Addressed | None, path: Path, wanted: str, *, lasts: bool) -> None:
        self.wanted = wanted
        self._repository = repository
        self._host = host
        self._path = path
        self.lasts = lasts
        self._ongoing = self._read() if host is not None else None

    @property
    def ongoing(self) -> Ongoing | None:
        """The job that was begun, by this process or another."""
        return self._ongoing

    def keep(self, ongoing: Ongoing) -> None:
        """A job is about to begin, or there is more to know of it."""
        if self.lasts:
            self._ongoing = ongoing
            self._write()

    def note(self, revocation: str) -> None:
        """A grant is about to be given to the job."""
        if self._ongoing is not None and revocation:
            self._ongoing.revocations.append(revocation)
            self._write()

    def hearing(self, listen: Listener) -> Listener:
        """The listener of the job: it notes now and then that somebody follows it."""

        def hear(event: Event) -> None:
            if self._ongoing is not None and self._now() - self._ongoing.seen > _SEEN:
                self._ongoing.seen = self._now()
                with suppress(OSError):  # a full disk, say: the job has nothing to do with that
                    self._write()
            listen(event)

        return hear

    def tell(self, listen: Listener) -> None:
        """Say that a job is followed which was begun before."""
        if self._ongoing is not None:
            text = f"Following the job that was begun at {rfc3339(self._ongoing.begun)}; on the host it went on."
            listen(Event(kind="note", at=0.0, text=text))

    def is_recent(self) -> bool:
        return self._ongoing is not None and abs(self._now() - self._ongoing.seen) < RECENT

    def done(self) -> None:
        """The job ended and was dealt with: nothing of it stays, here or on the host, as far as that answers."""
        if self._host is not None and self._ongoing is not None:
            try:
                self._host.forget(self._ongoing.name)
            except Interrupted:
                raise
            except TorporError:
                pass  # it has ended: what the host still has of it does nothing
            finally:
                self._path.unlink(missing_ok=True)
        self._ongoing = None

    def clear(self) -> None:
        """The job is of no use: end it. Raises what the host's end of that does; the job may run on then, and its note stays."""
        if self._host is not None and self._ongoing is not None:
            self._host.forget(self._ongoing.name)
            self._path.unlink(missing_ok=True)
        self._ongoing = None

    def failed(self) -> bool:
        """The same, where another error is on its way: whether the job is gone. Else the next run follows it, or ends it."""
        try:
            self.clear()
        except Interrupted:
            raise
        except TorporError:
            self._ongoing = None
            return False
        return True

    def _now(self) -> float:
        return self._repository.clock.now()

    def _read(self) -> Ongoing | None:
        try:
            return msgspec.convert(self._repository.home.read(self._path), Ongoing)
        except (*BROKEN, msgspec.ValidationError, ValueError):
            return None  # there is none, or it is another version's: the job is done anew

    def _write(self) -> None:
        self._repository.home.write(self._path, msgspec.to_builtins(self._ongoing))


@contextmanager
def opened(
    repository: Repository, host: Host, kind: Literal["snapshot", "restore"], paths: Sequence[bytes], wanted: object
) -> Iterator[Slot]:
    """The slot of a workspace on a host. Raises `MachineError` if another process drives a job of this one.

    By a way whose jobs do not last, one that lasts is ended first: its note names it.
    """
    digest = hashlib.sha256(msgspec.json.encode(wanted)).hexdigest()
    lasts = isinstance(host, Lasting)
    if not isinstance(host, Addressed) or not (host.address or lasts):
        yield Slot(repository, None, Path(), digest, lasts=False)
        return
    words = msgspec.json.encode([repository.id, host.address, list(paths)])
    key = hashlib.sha256(words).hexdigest()[:32]
    with _locked(repository.home.jobs, key, host.address):
        slot = Slot(repository, host, repository.home.jobs / f"{key}-{kind}.json", digest, lasts=lasts)
        if not slot.lasts:
            slot.clear()
        yield slot


@contextmanager
def _locked(folder: Path, key: str, address: str) -> Iterator[None]:
    """For this process alone, until it leaves or dies."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = folder / f".{key}.lock"
    while True:
        with open(name, "a+", encoding="ascii") as lock:
            _lock(lock, address)
            if not _is_at(lock, name):
                continue  # whoever had it before has removed it meanwhile
            try:
                yield
            finally:
                if next(folder.glob(f"{key}-*"), None) is None:
                    name.unlink(missing_ok=True)
            return


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(lock: IO[str], address: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise MachineError(
            f"Process {lock.read().strip() or '?'} of this computer works on this workspace of {address or 'the machine'} already.",
            safe="Nothing was changed.",
            remedy="Wait until it is done, or stop it; then run this again.",
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()

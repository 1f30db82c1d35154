"""Machines that were rented and not yet handed over: written down before they are made, ended when they are not needed.

A lease has a record in `TORPOR_HOME/leases/<id>.json`, written before the provider is asked, and a label on the machine that says until
when it may live unclaimed. So whatever crashes, and wherever, `sweep` finds what was left: by record on this computer, by label on any.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from torpor.clock import Clock, rfc3339
from torpor.control import places
from torpor.control.home import Home
from torpor.errors import DestroyRefused, MachineError, TorporError, UsageError
from torpor.machines import lease as leases
from torpor.machines.base import Machine, Provider, Rented, Status, Unused
from torpor.machines.lease import Lease
from torpor.machines.table import has_account, open_machine, open_provider, providers
from torpor.settings import Settings

GRACE = 120.0  # seconds by which a lease of another computer's may have run out without being ended: clocks differ
_GOOD_FOR = 900.0  # seconds for which the permission to end a machine holds

Phase = Literal["intended", "made", "kept", "ended"]


class Record(msgspec.Struct, kw_only=True):
    """What this computer knows of a lease. `price`: dollars an hour. `owner`: the process that took it out, as `owner_lives` tells it.
    `account`: of the provider; another one sees nothing of the machine."""

    id: str
    kind: str
    until: int
    spend: float
    phase: Phase
    address: str = ""
    price: float = 0.0
    owner: str = ""
    account: str = ""
    begun: str = ""
    why: str = ""

    @property
    def lease(self) -> Lease:
        return Lease(id=self.id, until=self.until, spend=self.spend)


class Book:
    """The records of one home."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock

    def _path(self, lease: str) -> Path:
        return self._home.leases / f"{lease}.json"

    def take_out(self, kind: str, seconds: float, spend: float = 0.0, account: str = "") -> Lease:
        """A lease, on disk before anything is made."""
        lease = leases.new(self._clock.now(), seconds, spend)
        self._write(
            Record(
                id=lease.id, kind=kind, until=lease.until, spend=spend, phase="intended", owner=_me(), account=account,
                begun=rfc3339(self._clock.now()),
            )
        )  # fmt: skip
        return lease

    def made(self, lease: Lease, address: str, price: float) -> None:
        self._change(lease.id, phase="made", address=address, price=price)

    def kept(self, lease: Lease) -> None:
        self._change(lease.id, phase="kept")

    def ended(self, lease: Lease, why: str) -> None:
        self._change(lease.id, phase="ended", why=why)

    def get(self, lease: str) -> Record | None:
        """None if there is none, or none that can be read: then its label alone counts, as on other computers."""
        with suppress(msgspec.ValidationError, ValueError):
            data = self._home.read(self._path(lease))
            return msgspec.convert(data, Record) if data else None
        return None

    def all(self) -> list[Record]:
        """Oldest first; of records that can't be read none is made up."""
        found = []
        for path in sorted(self._home.leases.glob("*.json")):
            with suppress(msgspec.ValidationError, ValueError):
                found.append(msgspec.convert(self._home.read(path), Record))
        return sorted(found, key=lambda record: record.begun)

    def _change(self, lease: str, **fields: object) -> None:
        record = self.get(lease)
        if record is not None:
            self._write(msgspec.structs.replace(record, **fields))

    def _write(self, record: Record) -> None:
        self._home.write(self._path(record.id), msgspec.to_builtins(record))


def _me() -> str:
    return ":".join((str(os.getpid()), _started(os.getpid()), *_here()))


def _here() -> tuple[str, str, str]:
    """This computer, its start, and the space in which process ids count: containers may share a home, and so may computers."""
    computer = f"{_line('/etc/machine-id')} {os.uname().nodename}"
    try:
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        space = ""
    return hashlib.sha256(computer.encode()).hexdigest()[:12], _line("/proc/sys/kernel/random/boot_id"), space


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in ticks since boot: a pid alone is given to another process some day. Empty where nobody says."""
    return "".join(_line(f"/proc/{pid}/stat").rpartition(")")[2].split()[19:20])


def owner_lives(record: Record) -> bool:
    """Whether the process that took the lease out may still run. False only where that is known to be over."""
    pid, started, *where = [*record.owner.split(":"), ""][:5]
    computer, boot, space = _here()
    if len(where) == 3:
        if where[0] != computer:
            return True  # nobody here knows
        if where[1] != boot:
            return False
        if where[2] != space:
            return True
    if not pid.isdigit():
        return False
    now = _started(int(pid))
    return now == started if now or started else _exists(int(pid))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def orphans(settings: Settings, clock: Clock) -> list[Record]:
    """Records of this home whose process is gone, and that nobody handed over or ended: sweep looks for their machines."""
    found = Book(Home(settings.home), clock).all()
    return [record for record in found if record.phase in ("intended", "made") and not owner_lives(record)]


def end(machine: Machine, lease: Lease, clock: Clock) -> Status:
    """End a machine that was made under this lease and never handed over. Raises `MachineError` if it can't be confirmed."""
    status = machine.status()
    return machine.destroy(Unused(machine.address, status.rental, f"lease {lease.id}", clock.now() + _GOOD_FOR))


class Found(msgspec.Struct, frozen=True):
    """One machine that sweep looked at. `done`: `ended`, `would end`, `left`, `failed`; `why` in words."""

    address: str
    label: str
    done: Literal["ended", "would end", "left", "failed"]
    why: str
    price: float | None = None


def claim(settings: Settings, address: str, clock: Clock) -> bool:
    """Somebody names this machine as theirs. If it is still under a lease, of a wake that died, say, it is handed over with that: they
    will work on it, and a lease would end it. Raises `MachineError` if that can't be done; True if there was something to do.

    A lease that is out is no hindrance: what was done on the machine would be lost with it, and whoever ends it looks at its label before
    each request. Here, its papers are looked at after the label is written, and a sweep does the same the other way round, so that one of
    the two gives way.
    """
    kind = address.partition(":")[0]
    if kind not in providers():
        return False
    ground = places.ground(settings, clock)
    machine = open_machine(address, ground)
    status = machine.status()
    label = leases.parse(status.label)
    if label is None or label.until is None:
        return False
    if status.ending:
        raise MachineError(
            f"This computer has begun to end {address}, as its lease was not kept.",
            safe="Its label was left as it is.",
            remedy="Copy from it by hand what is nowhere else; torpor sweep finishes its end. Then wake the snapshot again.",
        )
    lease = Lease(id=label.id, until=label.until)
    open_provider(kind, ground).hand_over(address, lease)
    status = machine.status()
    if status.ending or status.state in ("missing", "destroyed"):
        raise MachineError(
            f"While {address} was handed over, somebody began to end it.",
            safe="Nothing was done on it.",
            remedy="Run the command again: if the machine is still there, it is yours.",
        )
    Book(Home(settings.home), clock).kept(lease)
    return True


def sweep(settings: Settings, clock: Clock, *, dry_run: bool = False, kinds: Iterable[str] = ()) -> Iterator[Found]:
    """End every machine that a crash left before it was handed over, at every provider that there is an account for.

    A machine that was handed over, or that has no label of torpor's, is never touched. One whose lease still runs is left, unless its
    record is here and the process that took it out is gone.
    """
    book = Book(Home(settings.home), clock)
    ground = places.ground(settings, clock)
    for kind in kinds or providers():
        seen: set[str] = set()
        try:
            provider = open_provider(kind, ground)
            rented = list(provider.rented())
        except TorporError as error:
            ours = any(record.kind == kind and record.phase in ("intended", "made") for record in book.all())
            if ours or has_account(kind, settings.access):  # who is not asked may hold something that costs
                yield Found(kind, "", "failed", f"It can't be asked: {error.what}")
            continue
        for one in rented:
            seen.add(one.label.id)
            yield _judge(settings, book, clock, one, dry_run=dry_run)
        yield from _unseen(book, clock, kind, provider.account, seen, dry_run=dry_run)


def check_asked(settings: Settings, found: Sequence[Found], kinds: Sequence[str]) -> list[str]:
    """The kinds that a sweep asked. Raises `UsageError` if that is none: to have found nothing says nothing then."""
    asked = [kind for kind in kinds if has_account(kind, settings.access)]
    if not found and not asked:
        raise UsageError(
            f"Nobody was asked: there is no account of {' or '.join(kinds)} here.",
            safe="Nothing was ended.",
            remedy="Set VAST_API_KEY, or GCE_PROJECT and Google's credentials (docs/machines.md).",
        )
    return asked


def _unseen(book: Book, clock: Clock, kind: str, account: str, seen: set[str], *, dry_run: bool) -> Iterator[Found]:
    """Records without a machine. That another account has none says nothing."""
    for record in book.all():
        if record.kind != kind or record.phase not in ("intended", "made") or record.id in seen:
            continue
        if owner_lives(record) and clock.now() <= record.until + GRACE:
            continue
        if record.account in ("", account):
            if not dry_run:
                book.ended(record.lease, "no machine has its label")
            continue
        why = "It was rented with another account, and may go on costing there. Run sweep with that one."
        yield Found(record.address or kind, record.lease.label, "failed", why, record.price or None)


def _judge(settings: Settings, book: Book, clock: Clock, one: Rented, *, dry_run: bool) -> Found:
    label, price = one.label, one.status.price
    text = str(label)
    record = book.get(label.id)
    if label.until is None:
        if record is not None and record.phase != "kept" and not dry_run:
            book.kept(record.lease)  # by another computer, or by a process that died between label and record
        return Found(one.address, text, "left", "it was handed over", price)
    if record is None and clock.now() <= label.until + GRACE:
        return Found(one.address, text, "left", "its lease still runs, on another computer", price)
    if record is not None and owner_lives(record) and clock.now() <= label.until + GRACE:
        return Found(one.address, text, "left", "it is being made ready now", price)
    why = "its lease ran out" if clock.now() > label.until else "the process that made it is gone"
    if dry_run:
        return Found(one.address, text, "would end", why, price)
    lease = Lease(id=label.id, until=label.until)
    try:
        machine = open_machine(one.address, places.ground(settings, clock))
        end(machine, lease, clock)
    except (TorporError, OSError) as error:
        if isinstance(error, DestroyRefused) and _is_kept(machine):
            book.kept(lease)
            return Found(one.address, text, "left", "it was handed over just now", price)
        return Found(one.address, text, "failed", getattr(error, "what", str(error)), price)
    book.ended(lease, why)
    return Found(one.address, text, "ended", why, price)


def hand_over(provider: Provider, book: Book, address: str, lease: Lease, clock: Clock) -> None:
    """From now on only a proof ends the machine. The label comes first: it is what other computers go by, and until it is told the
    machine is nobody's to work on. Raises `MachineError`; the machine is then still under its lease."""
    if clock.now() > lease.until:
        raise MachineError(
            f"The lease of {address} ran out, so any computer's sweep may be ending it now.",
            safe="The snapshot is untouched.",
            remedy="Wake it again, with a longer --lease.",
        )
    provider.hand_over(address, lease)
    book.kept(lease)


def end_quietly(machine: Machine, book: Book, lease: Lease, clock: Clock, why: str) -> str:
    """End a machine on the way out of a failure; what went wrong with that is returned in words, empty if nothing."""
    try:
        end(machine, lease, clock)
        book.ended(lease, why)
    except Exception as error:  # noqa: BLE001 - the first error must be told, and this one with it
        if isinstance(error, DestroyRefused) and _is_kept(machine):
            book.kept(lease)
            return f"{machine.address} was handed over before that: it runs on and costs, until you hibernate it or end it yourself."
        what = error.what if isinstance(error, TorporError) else f"{type(error).__name__}: {error}."
        return f"{machine.address} could not be ended and may go on costing: {what} `torpor sweep` tries again."
    return ""


def _is_kept(machine: Machine) -> bool:
    try:
        label = leases.parse(machine.status().label)
    except TorporError:
        return False
    return label is not None and label.until is None


def tell(error: BaseException, left: str) -> None:
    """Let an error that is about to be raised say what goes on costing. Raises another in its place if it has no words of its own."""
    if left and isinstance(error, TorporError):
        error.safe = f"{error.safe} {left}".strip()
    elif left:
        raise MachineError(f"The run ended by {type(error).__name__}. {left}", safe="The snapshots are untouched.") from error

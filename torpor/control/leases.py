"""Machines that were rented and not yet handed over: written down before they are made, ended when they are not needed.

A lease has a record in `TORPOR_HOME/leases/<id>.json`, written before the provider is asked, and a label on the machine that says until
when it may live unclaimed. So whatever crashes, and wherever, `sweep` finds what was left: by record on this computer, by label on any.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from torpor.clock import Clock, rfc3339
from torpor.control import places
from torpor.control.home import Home
from torpor.errors import DestroyRefused, MachineError, MissingDependency, TorporError, UsageError
from torpor.machines import lease as leases
from torpor.machines.base import Machine, Provider, Rented, Status, Unused
from torpor.machines.lease import Lease
from torpor.machines.table import has_account, open_machine, open_provider, providers
from torpor.settings import Settings

HOURS = 3600.0
GRACE = 120.0  # seconds by which a lease of another computer's may have run out without being ended: clocks differ
_GOOD_FOR = 900.0  # seconds for which the permission to end a machine holds

Phase = Literal["intended", "made", "kept", "ended"]


class Record(msgspec.Struct, kw_only=True):
    """What this computer knows of a lease. `price`: dollars an hour. `owner`: pid and start of the process that took it out."""

    id: str
    kind: str
    until: int
    spend: float
    phase: Phase
    address: str = ""
    price: float = 0.0
    owner: str = ""
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

    def take_out(self, kind: str, seconds: float, spend: float = 0.0) -> Lease:
        """A lease, on disk before anything is made."""
        lease = leases.new(self._clock.now(), seconds, spend)
        self._write(
            Record(
                id=lease.id, kind=kind, until=lease.until, spend=spend, phase="intended", owner=_me(), begun=rfc3339(self._clock.now())
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
        data = self._home.read(self._path(lease))
        return msgspec.convert(data, Record) if data else None

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
    return f"{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process began, in ticks since boot: a pid alone is given to another process some day."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def owner_lives(record: Record) -> bool:
    """Whether the process that took the lease out still runs on this computer."""
    pid, _, started = record.owner.partition(":")
    return pid.isdigit() and bool(started) and _started(int(pid)) == started


def deadline(lease: Lease, price: float, now: float) -> float:
    """Seconds since 1970 by which the machine must be handed over: the lease's end, or when its money is spent."""
    if lease.spend > 0 and price > 0:
        return min(lease.until, now + lease.spend / price * HOURS)
    return lease.until


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


def sweep(settings: Settings, clock: Clock, *, dry_run: bool = False, kinds: Iterable[str] = ()) -> Iterator[Found]:
    """End every machine that a crash left before it was handed over, at every provider that there is an account for.

    A machine that was handed over, or that has no label of torpor's, is never touched. One whose lease still runs is left, unless its
    record is here and the process that took it out is gone.
    """
    book = Book(Home(settings.home), clock)
    ground = places.ground(settings, clock)
    seen: set[str] = set()
    for kind in kinds or providers():
        try:
            provider = open_provider(kind, ground)
            rented = list(provider.rented())
        except (MissingDependency, MachineError, UsageError) as error:
            ours = any(record.kind == kind and record.phase in ("intended", "made") for record in book.all())
            if ours or has_account(kind, settings.access):  # who is not asked may hold something that costs
                yield Found(kind, "", "failed", f"It can't be asked: {error.what}")
            continue
        for one in rented:
            seen.add(one.label.id)
            yield _judge(settings, book, clock, one, dry_run=dry_run)
        for record in book.all():
            if record.kind == kind and record.phase in ("intended", "made") and record.id not in seen and not owner_lives(record):
                book.ended(record.lease, "no machine has its label")


def _judge(settings: Settings, book: Book, clock: Clock, one: Rented, *, dry_run: bool) -> Found:
    label, price = one.label, one.status.price
    text = f"{leases.PREFIX}{label.id}-{'kept' if label.until is None else label.until}"
    if label.until is None:
        return Found(one.address, text, "left", "it was handed over", price)
    record = book.get(label.id)
    if record is None and clock.now() <= label.until + GRACE:
        return Found(one.address, text, "left", "its lease still runs, on another computer", price)
    if record is not None and owner_lives(record) and clock.now() <= label.until + GRACE:
        return Found(one.address, text, "left", "it is being made ready now", price)
    why = "its lease ran out" if clock.now() > label.until else "the process that made it is gone"
    if dry_run:
        return Found(one.address, text, "would end", why, price)
    lease = Lease(id=label.id, until=label.until)
    try:
        end(open_machine(one.address, places.ground(settings, clock)), lease, clock)
    except (MachineError, DestroyRefused) as error:
        return Found(one.address, text, "failed", error.what, price)
    book.ended(lease, why)
    return Found(one.address, text, "ended", why, price)


def hand_over(provider: Provider, book: Book, address: str, lease: Lease) -> None:
    """From now on only a proof ends the machine. The label comes first: it is what other computers go by, and until it is told the
    machine is nobody's to work on. Raises `MachineError`; the machine is then still under its lease."""
    provider.hand_over(address, lease)
    book.kept(lease)


def end_quietly(machine: Machine, book: Book, lease: Lease, clock: Clock, why: str) -> str:
    """End a machine on the way out of a failure; what went wrong with that is returned in words, empty if nothing."""
    try:
        end(machine, lease, clock)
    except TorporError as error:
        return f"{machine.address} could not be ended and may go on costing: {error.what} `torpor sweep` tries again."
    book.ended(lease, why)
    return ""

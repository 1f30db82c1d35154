"""The contract of a machine, and the proof without which none is destroyed."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from torpor.clock import Clock
from torpor.errors import DestroyRefused

State = Literal["running", "stopped", "destroyed", "missing"]


class Access(msgspec.Struct, frozen=True):
    """How to reach a machine's files: its roots, and the folder for the engine's records. Both are on the machine.

    `command` starts the engine's serving end on it (torpor.remote.serve); empty: this computer's own.
    """

    roots: list[bytes]
    state: bytes
    command: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """`rental`: the machine's identity from create to destroy; another machine of the same name has another."""

    address: str
    state: State
    rental: str = ""


class Proof:
    """Permission to destroy one rental of one machine, for a short time. Only `torpor.control.destroy` makes one, from a receipt."""

    __slots__ = ("machine", "rental", "snapshot", "until")

    def __init__(self, machine: str, rental: str, snapshot: str, until: float) -> None:
        self.machine = machine
        self.rental = rental
        self.snapshot = snapshot
        self.until = until

    def check(self, machine: str, rental: str, clock: Clock) -> None:
        """Raise `DestroyRefused` unless this proof is for this machine, this rental and now."""
        if machine != self.machine or rental != self.rental:
            raise DestroyRefused(
                f"The proof is for {self.machine} ({self.rental[:8]}), not for {machine} ({rental[:8]}).",
                safe="The machine was left running.",
            )
        if clock.now() > self.until:
            raise DestroyRefused(
                f"The proof that {self.snapshot} can be restored has gone stale.",
                safe="The machine was left running.",
                remedy="Verify again, then destroy.",
            )


class Machine(Protocol):
    """One machine. All methods may be called again after a failure: `create` and `destroy` are idempotent."""

    @property
    def address(self) -> str:
        """Such as `local:NAME`: what people type and manifests keep."""

    def status(self) -> Status: ...

    def create(self) -> Status:
        """Make it, or adopt the one that is running. Raises `MachineError`."""

    def access(self) -> Access:
        """Raises `MachineError` unless it is running."""

    def destroy(self, proof: Proof) -> Status:
        """Destroy the rental that `proof` names, and confirm it. Raises `DestroyRefused`; the machine then still runs."""

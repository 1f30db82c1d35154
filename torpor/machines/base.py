"""The contract of a machine, of those who rent them out, and the proof without which none is destroyed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from torpor.access import Access as Accounts
from torpor.clock import SYSTEM, Clock
from torpor.errors import DestroyRefused, MachineError
from torpor.machines.lease import Label, Lease
from torpor.plan.offers import Offer, Wish
from torpor.ssh.base import Target

State = Literal["running", "starting", "stopped", "interrupted", "unreachable", "destroyed", "missing"]


class OfferGone(MachineError):
    """Somebody else took it, or it is not offered any more: take the next one. Nothing was made."""


class BidTooLow(MachineError):
    """The price offered does not win this machine: bid more, or take the next. Nothing is left that costs."""


class Ambiguous(MachineError):
    """A machine may have been made: the answer was lost, and looking for its label did not settle it."""


class Access(msgspec.Struct, frozen=True):
    """How to reach a machine's files: its roots, and the folder for the engine's records. Both are on the machine.

    `command` starts the engine's serving end on it (torpor.remote.serve); empty: this computer's own. `ssh`: where its SSH server is;
    None: it is this computer. A `state` that does not begin with a slash is below the home of the SSH user.
    """

    roots: list[bytes]
    state: bytes
    command: tuple[str, ...] = ()
    ssh: Target | None = None


class Status(msgspec.Struct, frozen=True):
    """`rental`: the machine's identity from create to destroy, 32 hex digits; another machine of the same name has another. It is
    the provider's word where there is one, and is written into the engine's state folder before its first job.

    `starting`: made, not yet usable. `interrupted`: stopped by its provider, not by us. `unreachable`: the provider does not know.
    `detail`: the provider's own words. `price`: dollars an hour while it is in this state; None where nobody says. `label`: what a
    rented one is called there, if it is a label of torpor's (`lease.parse`). `ending`: it is there, and this computer began to end it.
    """

    address: str
    state: State
    rental: str = ""
    detail: str = ""
    price: float | None = None
    label: str = ""
    ending: bool = False


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a kind of machine. Sentences are shown to people; `notice`: seconds between the word and the end, on interruption.

    `confirms`: whether it can be asked afterwards if a destroyed machine is gone. `ends`: what `destroy` ends: the machine and all it
    costs, or only what lies in its workspace.
    """

    deletes: str
    billed_stopped: str
    notice: float
    disk_min: int = 0
    confirms: bool = True
    ends: Literal["machine", "workspace"] = "machine"


class Ground(msgspec.Struct, frozen=True):
    """What machines stand on: a folder of this computer for local ones and for papers, the accounts of providers, a clock."""

    folder: Path
    accounts: Accounts = msgspec.field(default_factory=Accounts)
    clock: Clock = SYSTEM


class Proof:
    """Permission to destroy one rental of one machine, for a short time. Only `torpor.control.destroy` makes one, from a receipt.

    `repository`: the id of the one that the snapshot is in, which must not go with the machine.
    """

    __slots__ = ("machine", "rental", "repository", "snapshot", "until")

    def __init__(self, machine: str, rental: str, snapshot: str, until: float, repository: str = "") -> None:
        self.machine = machine
        self.rental = rental
        self.snapshot = snapshot
        self.until = until
        self.repository = repository

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


class Unused(Proof):
    """Permission to end a rental that was never handed over: it was made under a lease, and holds nothing that is not stored.

    Only `torpor.control.leases` makes one, of a machine whose label still has the lease's end.
    """

    __slots__ = ()


class Machine(Protocol):
    """One machine. All methods may be called again after a failure: `create` and `destroy` are idempotent."""

    @property
    def address(self) -> str:
        """Such as `local:NAME`: what people type and manifests keep."""

    @property
    def traits(self) -> Traits: ...

    def status(self) -> Status:
        """As the provider tells it now. Raises `MachineError` if it can't be asked."""

    def create(self) -> Status:
        """Make it, adopt the one that is running, or start the one that is stopped. Raises `MachineError`; of a machine that only an
        offer makes (see `Provider.rent`) too."""

    def access(self) -> Access:
        """Raises `MachineError` unless it is running."""

    def destroy(self, proof: Proof) -> Status:
        """Destroy the rental that `proof` names, and confirm it: the status is asked for afterwards, and `destroyed` is said of what
        is gone alone. Raises `DestroyRefused`; the machine then still runs. Raises `MachineError` if it lives on, or nobody knows."""


class Rented(msgspec.Struct, frozen=True):
    """One machine of the account that has a label of torpor's."""

    address: str
    label: Label
    status: Status


class Provider(Protocol):
    """Somebody who rents machines out. Raises `MachineError` where it can't be asked."""

    @property
    def traits(self) -> Traits: ...

    @property
    def account(self) -> str:
        """Tells accounts apart, and is no secret: another account sees nothing of what this one rented."""

    def offers(self, wish: Wish) -> list[Offer]:
        """What could be had now, wider than the wish where it can't be asked exactly: `plan.offers.rank` judges."""

    def rent(self, offer: Offer, lease: Lease, wish: Wish, keys: HostIdentity) -> Machine:
        """Make a machine with the lease's label. The request is sent once; if the answer is lost it is looked for by its label, and
        adopted or destroyed. Raises `OfferGone`, `BidTooLow` (then nothing is left), `Ambiguous` (then `sweep` must look)."""

    def hand_over(self, address: str, lease: Lease) -> None:
        """Relabel a machine as kept: from now on only a proof ends it."""

    def rented(self) -> Sequence[Rented]:
        """Every machine of the account with a label of torpor's, in whatever state it is billed."""


class HostIdentity(msgspec.Struct, frozen=True):
    """The SSH host key made for one new machine, and the public key that may log in. `private` is the host's alone, and never printed:
    OpenSSH's PEM; `public` is pinned: `ssh-ed25519 AAAA…`. `login` is a line of authorized_keys."""

    private: str
    public: str
    login: str

    def __repr__(self) -> str:
        return f"HostIdentity({self.public})"

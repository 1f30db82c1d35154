"""Machines that people name on a command line are theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torpor.machines.table import is_machine

if TYPE_CHECKING:
    from torpor.cli.session import Session


def claim(session: Session, sources: Iterable[str]) -> None:
    """Hand over what is still under the lease of a wake, since a lease would end it. Raises `MachineError`."""
    for source in filter(is_machine, sources):
        from torpor.clock import SYSTEM
        from torpor.control import leases

        if leases.claim(session.settings, source, SYSTEM):
            session.warn(f"{source} was under the lease of a wake. It is yours now: nothing but a proof ends it.")

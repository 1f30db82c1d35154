"""torpor sweep: end machines that were rented and never handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli.parameters import choice, flag

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    flag("--dry-run", "Say what would be ended; end nothing."),
    choice("--provider", ("vast", "gce"), "Look there alone."),
)
EXIT_LEFT = 3


def run(session: Session, dry_run: bool, provider: str | None) -> int:
    """A crash on the way to a wake can leave a machine that nobody works on and that costs. It has a label with the end of its lease.

    A machine that was handed over, or that torpor did not make, is never touched. The exit code is 3 if something could not be ended.
    """
    import msgspec

    from torpor.clock import SYSTEM
    from torpor.control import leases
    from torpor.machines.table import providers

    kinds = [provider] if provider else providers()
    found = []
    for one in leases.sweep(session.settings, SYSTEM, dry_run=dry_run, kinds=(provider,) if provider else ()):
        found.append(one)
        cost = f", ${one.price:.3f}/h" if one.price else ""
        session.say(f"{one.address} {one.done}: {one.why}{cost}")
    asked = leases.check_asked(session.settings, found, kinds)
    if not found:
        session.say(f"Nothing was left at {' and '.join(asked)}.")
    failed = sum(one.done == "failed" for one in found)
    session.answer({"machines": [msgspec.to_builtins(one) for one in found], "failed": failed, "dry_run": dry_run})
    return EXIT_LEFT if failed else 0

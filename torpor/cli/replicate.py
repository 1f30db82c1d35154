"""torpor replicate: one snapshot on several machines at once, as a Prefect flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, wake, wish
from torpor.cli.parameters import argument, number, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest."),
    option("--on", "MACHINE", "A machine, made if it is not there; may be given again.", many=True),
    number("--count", "How many machines to rent, besides those."),
    *wish.MACHINE,
    *wish.LEASE,
    *wish.AFTER,
    *wake.RESTORE,
)
EXIT_SOME = 3


def run(session: Session, snapshot: str, on: list[str], count: int | None, **values: object) -> int:
    """Each machine downloads by itself, so that all are done in the time of one. One that fails does not fail the others; the result
    says which are whole, and the exit code is 3 if some are not."""
    from torpor.cli import flow

    wanted, restore = wish.parameters(values), wake.restoring(values)
    if not on and not count:
        raise UsageError("No machine was given.", remedy="Name some with --on, or rent some with --count and --gpu.")
    if not count:
        wish.check(wanted)
    flow.check_installed("replicate")
    parameters: dict[str, object] = {"snapshot": snapshot, "on": on, "count": count, **wanted, **restore}
    result = flow.run(session, "flows.launch", ["replicate", "--json-parameters", "-"], flow.chosen(parameters))
    for one in result["machines"]:
        if one["ok"]:
            wake.tell(session, one)
        else:
            session.warn(f"{one['machine']} is not whole: {one['failure']['what']} {one['failure']['remedy']}")
    session.say(
        f"{result['whole']} of {len(result['machines'])} machines are whole: snapshot {result['snapshot']}, "
        f"{amounts.seconds(result['seconds'])}"
    )
    session.answer(result)
    return EXIT_SOME if result["failed"] else 0

"""torpor wake: a machine, and a snapshot restored on it, as a Prefect flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import argument, choice, flag, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest."),
    option("--on", "MACHINE", "The machine, such as local:NAME, made if it is not there. Without it, a new local machine."),
    flag("--merge", "The machine's workspace may hold other files: keep them."),
    flag("--replace", "Make the machine's workspace equal to the snapshot: remove what it lacks."),
    choice("--owners", ("numbers", "names", "none"), "Give files their owners by number, by name, or leave them to whoever restores."),
    flag("--setuid", "Restore setuid and setgid bits too."),
    option(
        "--memory",
        "SIZE",
        "How much memory the engine may use at most: 512M unless told, with a remote store an eighth of the machine, up to 4G.",
    ),
)


def run(
    session: Session, snapshot: str, on: str | None, merge: bool, replace: bool, owners: str | None, setuid: bool, memory: str | None
) -> int:
    """Code, configuration and small files come first, so that the machine is usable before it is complete.

    Runs as a Prefect flow in a process of its own, with a server of its own if none is known. Interrupted and run again on the same
    machine, it goes on from there.
    """
    from torpor.cli import flow

    if merge and replace:
        raise UsageError("--merge and --replace exclude each other.")
    flow.check_installed("wake")
    parameters: dict[str, object] = {
        "snapshot": snapshot, "on": on, "mode": "merge" if merge else "replace" if replace else None, "owners": owners,
        "setuid": setuid or None, "memory_mib": given.size(memory, "--memory") >> 20 if memory else None,
    }  # fmt: skip
    result = flow.run(session, "flows.launch", ["wake", "--json-parameters", "-"], flow.chosen(parameters))
    for note in result["notes"]:
        session.warn(note)
    session.say(f"{result['machine']} is awake: snapshot {result['snapshot']}")
    if not session.quiet:
        session.say(
            f"  {amounts.count(result['files'], 'file')}, {amounts.size(result['raw_bytes'])}; "
            f"fetched {amounts.size(result['fetched_bytes'])}; usable after {amounts.seconds(result['usable_seconds'])}, "
            f"complete after {amounts.seconds(result['seconds'])}"
        )
    session.answer(result)
    return 0

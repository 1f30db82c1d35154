"""torpor wake: a machine, and a snapshot restored on it, as a Prefect flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given, wish
from torpor.cli.parameters import argument, choice, flag, grouped, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from torpor.cli.session import Session

RESTORE = grouped(
    "How to restore",
    flag("--merge", "The machine's workspace may hold other files: keep them."),
    flag("--replace", "Make the machine's workspace equal to the snapshot: remove what it lacks."),
    choice("--owners", ("numbers", "names", "none"), "Give files their owners by number, by name, or leave them to whoever restores."),
    flag("--setuid", "Restore setuid and setgid bits too."),
    option(
        "--memory",
        "SIZE",
        "How much memory the engine may use at most: 512M unless told, with a remote store an eighth of the machine, up to 4G.",
    ),
    option("--limit-rate", "SIZE", "Bytes a second that may come over the network at most, such as 50M."),
    option("--patience", "DURATION", "How long a store that does not answer is tried again: 5m unless told."),
    flag("--tune-network", "Set the machine's kernel for long and fast links, as far as it lets itself be."),
)
PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest."),
    option(
        "--on",
        "MACHINE",
        "The machine, such as local:NAME or ssh://user@host:port/path, made if it is not there. Without it one is rented, if an option "
        "below says which; else a new local machine.",
    ),
    flag("--dry-run", "Show which machine would be taken, why not the others, the time and the costs; rent nothing."),
    *wish.MACHINE,
    *wish.LEASE,
    *wish.AFTER,
    *RESTORE,
)


def restoring(values: Mapping[str, object]) -> dict[str, object]:
    """The flow's parameters for `RESTORE`. Raises `UsageError`."""
    merge, replace = values["merge"], values["replace"]
    if merge and replace:
        raise UsageError("--merge and --replace exclude each other.")
    memory, rate, patience = (values[key] for key in ("memory", "limit_rate", "patience"))
    return {
        "mode": "merge" if merge else "replace" if replace else None, "owners": values["owners"], "setuid": values["setuid"] or None,
        "memory_mib": given.size(str(memory), "--memory") >> 20 if memory else None,
        "rate": given.rate(str(rate), "--limit-rate") if rate else None,
        "patience": given.duration(str(patience), "--patience") if patience else None, "tune_network": values["tune_network"] or None,
    }  # fmt: skip


def run(session: Session, snapshot: str, on: str | None, dry_run: bool, **values: object) -> int:
    """Code, configuration and small files come first, so that the machine is usable before it is complete.

    Runs as a Prefect flow in a process of its own, with a server of its own if none is known. Interrupted and run again on the same
    machine, it goes on from there. A machine that was rented for it and did not become whole is destroyed again.
    """
    from torpor.cli import flow

    wanted, restore = wish.parameters(values), restoring(values)
    if on and wish.rents(wanted):
        raise UsageError("--on names a machine that is there; --gpu, --region, --max-price and --provider rent one.")
    wish.check(wanted)
    if dry_run:
        from torpor.cli.wake_dry import plan

        return plan(session, snapshot, on, wanted)
    flow.check_installed("wake")
    parameters: dict[str, object] = {"snapshot": snapshot, "on": on, **wanted, **restore}
    result = flow.run(session, "flows.launch", ["wake", "--json-parameters", "-"], flow.chosen(parameters))
    tell(session, result)
    session.answer(result)
    return 0


def tell(session: Session, result: Mapping[str, Any]) -> None:
    """One machine that is awake, for people."""
    for note in result["notes"]:
        session.warn(note)
    price = f", ${result['price']:.3f}/h" if result.get("price") else ""
    session.say(f"{result['machine']} is awake{price}: snapshot {result['snapshot']}")
    if not session.quiet:
        session.say(
            f"  {amounts.count(result['files'], 'file')}, {amounts.size(result['raw_bytes'])}; "
            f"fetched {amounts.size(result['fetched_bytes'])}; machine ready after {amounts.seconds(result['provision_seconds'])}, "
            f"usable after {amounts.seconds(result['usable_seconds'])}, complete after {amounts.seconds(result['seconds'])}"
        )
        session.say(f"  stages: {amounts.stages(result['stages'])}")
        for line in result["tried"]:
            session.say(f"  did not work out: {line}")

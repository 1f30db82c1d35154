"""torpor hibernate: snapshot, proof, destroy, as a Prefect flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import argument, choice, flag, number, option
from torpor.errors import EXIT_PROBLEMS

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    argument("MACHINE", "The machine, such as vast:ID, gce:PROJECT/ZONE/NAME, ssh://user@host:port/path or local:NAME."),
    flag("--dry-run", "Say what would be read, and what would keep the machine from being destroyed; nothing is written or destroyed."),
    flag("--keep", "Do not destroy the machine: only save it, and verify."),
    flag("--wipe", "Of a machine that torpor can't end, such as an SSH host, delete the workspace once the proof is there."),
    option("--before", "COMMAND", "Run this on the machine before anything is saved; if it fails, nothing is done."),
    option("--before-timeout", "DURATION", "How long that may take: 10m unless told."),
    choice("--verify", ("full", "sample"), "How much of the snapshot is read back before the machine goes; full is everything."),
    option("--accept", "PATH", "A file that may be lost although it could not be saved as it is, or all; may be given again.", many=True),
    option("--ignore-changes", "GLOB", "Changes after the snapshot that do not count; may be given again.", many=True),
    number("--rounds", "How many snapshots to take, each of what changed during the one before; 3 unless told.", least=1),
    option("--name", "TEXT", "A name for the snapshot."),
    option("--label", "KEY=VALUE", "A label; may be given again.", many=True),
    option("--exclude", "GLOB", "Leave out what matches, in the syntax of .gitignore; may be given again.", many=True),
    flag("--no-default-excludes", "Keep caches of packages and of compiled code too."),
    flag("--across-file-systems", "Enter other file systems that are mounted below. Else the machine is kept if there are any."),
    choice("--codec", ("auto", "zstd", "lz4", "raw"), "How to compress; auto chooses by content."),
    option(
        "--memory",
        "SIZE",
        "How much memory the engine may use at most: 512M unless told, with a remote store an eighth of the machine, up to 4G.",
    ),
    option("--limit-rate", "SIZE", "Bytes a second that may go over the network at most, such as 50M."),
    option("--patience", "DURATION", "How long a store that does not answer is tried again: 5m unless told."),
    flag("--tune-network", "Set the machine's kernel for long and fast links, as far as it lets itself be; it stays so."),
)


def run(
    session: Session, machine: str, dry_run: bool, keep: bool, wipe: bool, before: str | None, before_timeout: str | None,
    verify: str | None, accept: list[str], ignore_changes: list[str],
    rounds: int | None, name: str | None, label: list[str], exclude: list[str], no_default_excludes: bool,
    across_file_systems: bool, codec: str | None,
    memory: str | None, limit_rate: str | None, patience: str | None, tune_network: bool,
) -> int:  # fmt: skip
    """The machine is destroyed only on proof: a receipt, made outside of it, that its snapshot can be restored, and nothing changed since.

    Runs as a Prefect flow in a process of its own, with a server of its own if none is known. Interrupted, it leaves the machine running;
    run again, it goes on from what is in the store.
    """
    if dry_run:
        import msgspec

        from torpor.cli.preview import preview
        from torpor.control import places

        settings = msgspec.structs.replace(session.settings, gpu_install=False)  # for a look, no more is brought there than it needs
        place = places.of_machine(settings, machine, own_process=False)
        scope = place.scope(exclude, default_excludes=not no_default_excludes, one_file_system=not across_file_systems)
        return preview(session, place, scope, rescan=False, destroy=not keep, wipe=wipe)

    from torpor.cli import first, flow

    flow.check_installed("hibernate")
    parameters: dict[str, object] = {
        "machine": machine, "destroy_after": not keep, "verify": verify, "accept": accept, "ignore_changes": ignore_changes,
        "rounds": rounds, "name": name, "labels": given.labels(label), "excludes": exclude, "default_excludes": not no_default_excludes,
        "codec": codec, "memory_mib": given.size(memory, "--memory") >> 20 if memory else None,
        "wipe": wipe or None, "across_file_systems": across_file_systems or None, "before": before,
        "before_seconds": given.whole_seconds(before_timeout, "--before-timeout") if before_timeout else None,
        "rate": given.rate(limit_rate, "--limit-rate") if limit_rate else None,
        "patience": given.duration(patience, "--patience") if patience else None, "tune_network": tune_network or None,
    }  # fmt: skip
    first.on_this_disk(session)
    result = flow.run(session, "flows.launch", ["hibernate", "--json-parameters", "-"], flow.chosen(parameters))
    if result.get("created_repository"):
        first.welcome(session, session.repository())
    session.say(f"{machine} {_end(session, machine, result['destroyed'])}: snapshot {result['snapshot']}")
    if result["destroyed"] and result.get("price_after"):
        session.warn(f"It still costs ${result['price_after']:.4f} an hour, by its provider's word.")
    if not session.quiet:
        session.say(
            f"  {amounts.count(result['files'], 'file')}, {amounts.size(result['raw_bytes'])} → {amounts.size(result['stored_bytes'])}; "
            f"new in the store {amounts.size(result['new_bytes'])}; {amounts.seconds(result['seconds'])}"
        )
        session.say(f"  stages: {amounts.stages(result['stages'])}")
        session.say(f"  proof ({result['depth']}): {result['receipt']}")
    session.answer(result)
    lost = sum(result["problems"].get(kind, 0) for kind in ("unreadable", "vanished", "torn", "mount"))
    return EXIT_PROBLEMS if lost and not result["destroyed"] else 0  # of a machine that is gone, they were accepted


def _end(session: Session, machine: str, destroyed: bool) -> str:
    """What became of the machine, in words."""
    from torpor.control import places
    from torpor.machines.table import open_machine

    if not destroyed:
        return "is saved, and still runs"
    traits = open_machine(machine, places.ground(session.settings)).traits
    if traits.ends == "workspace":
        return "is saved, and its workspace was deleted; the host runs on"
    return "is destroyed, and that is confirmed" if traits.confirms else "is destroyed"

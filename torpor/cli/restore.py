"""torpor restore: bring a snapshot back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torpor.cli import amounts, given, named
from torpor.cli.parameters import argument, choice, flag, number, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.events import Event
    from torpor.jobs import Mode, Owners, RestoreResult

PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest."),
    argument(
        "TARGET",
        "A folder, or a machine, such as vast:ID or ssh://user@host:port/path; a local one is made if it is not there.",
        required=False,
    ),
    flag("--merge", "Write into a folder that holds other files, and keep them."),
    flag("--replace", "Make the target equal to the snapshot: remove what it lacks."),
    option("--map", "OLD=NEW", "Put the saved folder OLD at NEW; may be given again.", many=True),
    flag("--dry-run", "Show what would be written; write nothing."),
    choice("--owners", ("numbers", "names", "none"), "Give files their owners by number, by name, or leave them to whoever runs this."),
    flag("--setuid", "Restore setuid and setgid bits too."),
    option("--memory", "SIZE", "How much memory to use at most: 512M unless told, with a remote store an eighth of the machine, up to 4G."),
    number("--workers", "Threads that decompress; 0 is one a core."),
    option("--limit-rate", "SIZE", "Bytes a second that may go over the network at most, such as 50M."),
    option("--patience", "DURATION", "How long a store that does not answer is tried again: 5m unless told."),
    flag("--tune-network", "Set this machine's kernel for long and fast links, as far as it lets itself be; it stays so."),
    option("--cache", "PATH", "A folder that keeps what is read from storage, for the next time. Else TORPOR_CACHE."),
    option("--cache-size", "SIZE", "How large that folder may become: 50G unless told. Else TORPOR_CACHE_SIZE."),
)


def run(
    session: Session, snapshot: str, target: str | None, merge: bool, replace: bool, map: list[str],  # noqa: A002 - the option's name
    dry_run: bool, owners: Owners | None, setuid: bool, memory: str | None, workers: int | None, limit_rate: str | None,
    patience: str | None, tune_network: bool, cache: str | None, cache_size: str | None,
) -> int:  # fmt: skip
    """A snapshot of one folder goes to TARGET itself; of several folders, each goes below it by its old path, or where --map says.

    Where the store fails, copies of the snapshot are read (see `torpor copy`), and what happened is said.
    A folder that holds other files is refused without --merge or --replace. A restore that was interrupted goes on when it is run again.
    """
    from torpor.control import fallback, places, restores
    from torpor.jobs import PATIENCE

    if merge and replace:
        raise UsageError("--merge and --replace exclude each other.")
    mode: Mode = "merge" if merge else "replace" if replace else "new"
    maps = given.maps(map)
    if target is None and not maps:
        raise UsageError("No target was given.", remedy="Name a folder, or map folders one by one with --map OLD=NEW.")
    options = restores.Options(
        mode=mode, owners=owners or "numbers", setuid=setuid, dry_run=dry_run, maps=maps,
        memory=given.size(memory, "--memory") if memory else 0, workers=workers or 0,
        rate=given.size(limit_rate, "--limit-rate") if limit_rate else 0, tune=tune_network,
        patience=given.duration(patience, "--patience") if patience else PATIENCE,
        cache=os.fsencode(os.path.abspath(cache)) if cache else b"",
        cache_bytes=given.size(cache_size, "--cache-size") if cache_size else 0,
    )  # fmt: skip
    repository, found = fallback.find(session.settings, snapshot, session.warn)
    if target is not None and not dry_run:
        named.claim(session, [target])
    place = places.of_target(repository.settings, target or os.curdir, create=not dry_run)
    told: set[str] = set()
    with session.listener() as listen:

        def hear(event: Event) -> None:
            told.add(event.text)
            listen(event)

        place.prepare(listen)
        with place.reached(repository) as reached:
            result = restores.restore(reached, place.host, found, place.roots[0] if target else None, place.state, options, hear)
    for note in result.notes:
        if note not in told:
            session.warn(note)
    _report(session, result, dry_run)
    return 0


def _report(session: Session, result: RestoreResult, dry_run: bool) -> None:
    if dry_run:
        session.say(
            f"would restore {result.snapshot}: write {amounts.count(result.written_files, 'file')} ({amounts.size(result.written_bytes)}), "
            f"keep {result.kept_files:,}, remove {result.removed:,}"
        )
        for path in result.removed_paths:
            session.say(f"  would remove {path}")
        if result.removed > len(result.removed_paths) > 0:
            session.say(f"  and {result.removed - len(result.removed_paths):,} more")
    elif session.quiet:
        session.say(result.snapshot)
    else:
        session.say(f"restored {result.snapshot}")
        session.say(
            f"  {amounts.count(result.files, 'file')}, {amounts.size(result.raw_bytes)}; fetched {amounts.size(result.fetched_bytes)}"
            f"{f', {amounts.size(result.cached_bytes)} from the cache' if result.cached_bytes else ''}; "
            f"usable after {amounts.seconds(result.usable_seconds)}, complete after {amounts.seconds(result.seconds)}, "
            f"{amounts.rate(result.raw_bytes, result.seconds)}"
        )
        if result.kept_files or result.removed:
            session.say(
                f"  wrote {amounts.count(result.written_files, 'file')}, kept {result.kept_files:,} that were there, "
                f"removed {result.removed:,}"
            )
    for line in amounts.network(result.traffic, result.tuned):
        session.detail(f"  {line}")
    session.answer({
        "snapshot_id": result.snapshot, "files": result.files, "directories": result.directories, "links": result.links,
        "raw_bytes": result.raw_bytes, "fetched_bytes": result.fetched_bytes, "cached_bytes": result.cached_bytes,
        "seconds": result.seconds, "usable_seconds": result.usable_seconds,
        "written_files": result.written_files, "written_bytes": result.written_bytes,
        "kept_files": result.kept_files, "removed": result.removed, "removed_paths": result.removed_paths,
        "requests": result.requests, "notes": result.notes, "dry_run": dry_run,
        "traffic": amounts.traffic(result.traffic), "tuned": result.tuned,
    })  # fmt: skip

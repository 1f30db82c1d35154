"""torpor snapshot: save folders of this computer, or a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given, named
from torpor.cli.parameters import argument, choice, flag, number, option
from torpor.errors import EXIT_PROBLEMS, UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.repository import Repository
    from torpor.control.snapshots import Taken
    from torpor.jobs import Codec

PARAMETERS = (
    argument("SOURCE", "Folders or files of this computer, or one machine, such as vast:ID or ssh://user@host:port/path.", many=True),
    option("--name", "TEXT", "A name for people."),
    option("--label", "KEY=VALUE", "A label; may be given again.", many=True),
    option("--exclude", "GLOB", "Leave out what matches, in the syntax of .gitignore; may be given again.", many=True),
    flag("--no-default-excludes", "Keep caches of packages and of compiled code too."),
    flag("--across-file-systems", "Enter other file systems that are mounted below."),
    choice("--codec", ("auto", "zstd", "lz4", "raw"), "How to compress; auto chooses by content."),
    number("--level", "Level of the codec; 0 is its own."),
    option("--memory", "SIZE", "How much memory to use at most: 512M unless told, with a remote store an eighth of the machine, up to 4G."),
    number("--workers", "Threads that compress; 0 is one a core."),
    option("--limit-rate", "SIZE", "Bytes a second that may go over the network at most, such as 50M."),
    option("--patience", "DURATION", "How long a store that does not answer is tried again: 5m unless told."),
    flag("--tune-network", "Set this machine's kernel for long and fast links, as far as it lets itself be; it stays so."),
    flag("--rescan", "Read every file, whatever the last snapshot's record says."),
    flag("--compare", "Decode everything that is encoded, and compare."),
    choice("--encryption", ("on", "none"), "For the first snapshot, which makes the repository."),
    flag("--dry-run", "Show what would be read; write nothing."),
)


def run(
    session: Session, source: list[str], name: str | None, label: list[str], exclude: list[str], no_default_excludes: bool,
    across_file_systems: bool, codec: Codec | None, level: int | None, memory: str | None, workers: int | None,
    limit_rate: str | None, patience: str | None, tune_network: bool, rescan: bool, compare: bool, encryption: str | None, dry_run: bool,
) -> int:  # fmt: skip
    """Only what changed since the last snapshot of the same folders is read and stored.

    The first snapshot makes the repository. A snapshot with files that could not be read, vanished or kept changing is complete
    but for them; they are named, and the exit code is 3.
    """
    from torpor.control import places

    labels = given.labels(label)
    size = given.size(memory, "--memory") if memory else None
    if not dry_run:
        named.claim(session, source)
    place = places.of_sources(session.settings, source)
    scope = place.scope(exclude, default_excludes=not no_default_excludes, one_file_system=not across_file_systems)
    if dry_run:
        from torpor.cli.preview import preview

        return preview(session, place, scope, rescan)

    from torpor.control.snapshots import Options, take
    from torpor.jobs import PATIENCE

    repository = _repository(session, encryption)
    options = Options(
        name=name or "", machine=place.address, labels=labels, codec=codec or "auto", level=level or 0, compare=compare, rescan=rescan,
        memory=size or 0, workers=workers or 0, rate=given.size(limit_rate, "--limit-rate") if limit_rate else 0, tune=tune_network,
        patience=given.duration(patience, "--patience") if patience else PATIENCE,
    )  # fmt: skip
    with session.listener() as listen:
        place.prepare(listen)
        with place.reached(repository) as reached:
            taken = take(reached, place.host, scope, place.state, options, listen)
    return _report(session, repository, taken)


def _repository(session: Session, encryption: str | None) -> Repository:
    """The repository, made if the store is empty; says so, and where its keys are."""
    from torpor.cli.first import on_this_disk, welcome
    from torpor.control.repository import ENCRYPTED, PLAIN

    wanted = {None: None, "on": ENCRYPTED, "none": PLAIN}[encryption]
    repository = session.repository(create=True, encryption=wanted)
    if wanted and repository.config.encryption != wanted:
        raise UsageError(
            f"The repository at {repository.store.url} {'is encrypted' if repository.encrypted else 'is not encrypted'}.",
            safe="Nothing was changed.",
            remedy="--encryption is for the first snapshot, which makes a repository; leave it out, or give another --storage.",
        )
    if repository.created:
        welcome(session, repository)
    on_this_disk(session)
    return repository


def _report(session: Session, repository: Repository, taken: Taken) -> int:
    manifest, result = taken.snapshot.manifest, taken.result
    problems = {kind: manifest.problems.get(kind, 0) for kind in ("unreadable", "vanished", "torn", "special")}
    for line in result.problem_paths:
        session.warn(line)
    unnamed = sum(result.problems.values()) - len(result.problem_paths)
    if unnamed > 0:
        session.warn(f"{unnamed} more problems; `torpor show {manifest.snapshot}` lists all.")
    if result.mounts:
        listed = ", ".join(result.mounts[:5]) + (f" and {len(result.mounts) - 5} more" if len(result.mounts) > 5 else "")
        session.warn(f"Left out, as other file systems: {listed}. --across-file-systems saves them too.")
    bad = sum(count for kind, count in problems.items() if kind != "special")
    if session.quiet:
        session.say(manifest.snapshot)
    else:
        _summary(session, taken, bad)
    session.answer({
        "snapshot_id": manifest.snapshot, "files": manifest.files, "raw_bytes": manifest.raw_bytes,
        "stored_bytes": manifest.stored_bytes, "new_bytes": manifest.new_bytes, "seconds": round(taken.seconds, 3),
        "ratio": round(manifest.ratio, 4), **problems, "problems": result.problem_paths, "mounts": result.mounts,
        "read_files": result.read_files, "read_bytes": result.read_bytes,
        "traffic": amounts.traffic(result.traffic), "tuned": result.tuned,
        "codecs": {
            codec: {"chunks": use.chunks, "raw_bytes": use.raw_bytes, "coded_bytes": use.coded_bytes}
            for codec, use in manifest.codecs.items()
        },
        "lineage": manifest.lineage, "generation": manifest.generation, "parent": manifest.parent,
        "repository": repository.id, "created_repository": repository.created,
    })  # fmt: skip
    return EXIT_PROBLEMS if bad else 0


def _summary(session: Session, taken: Taken, bad: int) -> None:
    manifest, result = taken.snapshot.manifest, taken.result
    session.say(f"snapshot {manifest.snapshot}" + (f", with {amounts.count(bad, 'problem')} (above)" if bad else ""))
    session.say(
        f"  {amounts.count(manifest.files, 'file')}, {amounts.size(manifest.raw_bytes)} → {amounts.size(manifest.stored_bytes)}"
        f" (ratio {manifest.ratio:.2f}); {amounts.seconds(taken.seconds)}, {amounts.rate(manifest.raw_bytes, taken.seconds)}"
    )
    there = max(0, manifest.stored_bytes - manifest.new_bytes)
    session.say(
        f"  read {amounts.count(result.read_files, 'file')} ({amounts.size(result.read_bytes)}); "
        f"new in the store {amounts.size(manifest.new_bytes)}" + (f", there already {amounts.size(there)}" if there else "")
    )
    for line in amounts.network(result.traffic, result.tuned):
        session.detail(f"  {line}")
    for name, time in result.stages.items():
        session.detail(f"  {name}: {amounts.seconds(time)} over all threads")

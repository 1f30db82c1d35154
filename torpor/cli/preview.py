"""`--dry-run` of snapshot and hibernate: what would be read, and what would keep a machine from being destroyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts
from torpor.errors import HostFailed, NotFound

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.places import Place
    from torpor.jobs import Scope


def preview(session: Session, place: Place, scope: Scope, rescan: bool, destroy: bool = False, wipe: bool = False) -> int:
    """Walk and count; no repository is made. `destroy`: the machine would go afterwards;
    `wipe`: where torpor can't end it, its workspace would."""
    from torpor.control import recoverable
    from torpor.jobs import PreviewJob, PreviewResult

    confirmed = session.settings.recovery_confirmed
    try:
        found = session.repository()
        repository, confirmed = found.id, found.recovery_confirmed or not found.encrypted
        none_yet, why = False, recoverable.trouble(found) if destroy and found.keys is not None else ""
    except NotFound:
        repository, none_yet, why = "", True, ""
    with session.listener() as listen:
        result = place.host.run(PreviewJob(repository=repository, scope=scope, state=place.state, rescan=rescan), listen)
    if not isinstance(result, PreviewResult):
        raise HostFailed("The host answered another job than it was given.")
    for line in result.problem_paths:
        session.warn(line)
    read, size = result.new_files + result.changed_files, result.new_bytes + result.changed_bytes
    session.say(f"would read {read:,} of {amounts.count(result.files, 'file')}: {amounts.size(size)} of {amounts.size(result.raw_bytes)}")
    session.say(
        f"  new {result.new_files:,} ({amounts.size(result.new_bytes)}), changed {result.changed_files:,} "
        f"({amounts.size(result.changed_bytes)}), gone {result.gone:,}"
        + (f", since {result.snapshot}" if result.snapshot else "; there is no snapshot of these folders yet")
    )
    in_the_way = _in_the_way(place, result.problems, confirmed) if destroy else []
    if destroy and not none_yet and place.far is None:
        from torpor.control.destroy import refuse_inside
        from torpor.errors import DestroyRefused

        try:
            refuse_inside(found, place.roots)
        except DestroyRefused as error:
            in_the_way.append(error.what.rstrip("."))
    if destroy and none_yet:
        in_the_way.insert(0, "there is no repository: torpor snapshot makes one, unless another storage was meant")
    if why:
        in_the_way.insert(0, f"the recovery key would not bring the keys back: {why}: torpor keys confirm")
    whole = place.traits is None or place.traits.ends == "machine"
    if destroy:
        end = f"destroy {place.address}" if whole else "delete its workspace" if wipe else "leave the machine as it is"
        session.say(f"would then read it back, compare, and {end}" + (", but for:" if in_the_way else ""))
        for line in in_the_way:
            session.say(f"  {line}")
        if not whole:
            session.say(f"  torpor can't end {place.address}: it may go on costing" + ("" if wipe else "; --wipe deletes its workspace"))
    going = {"would_destroy": place.address if whole or wipe else None, "in_the_way": in_the_way} if destroy else {}
    session.answer({
        **going, "dry_run": True, "compared_with": result.snapshot, "files": result.files, "directories": result.directories,
        "links": result.links, "raw_bytes": result.raw_bytes, "read_files": read, "read_bytes": size,
        "new_files": result.new_files, "new_file_bytes": result.new_bytes, "changed_files": result.changed_files,
        "changed_file_bytes": result.changed_bytes, "gone": result.gone, "problems": result.problem_paths,
        "unreadable": result.problems.get("unreadable", 0), "special": result.problems.get("special", 0), "seconds": result.seconds,
    })  # fmt: skip
    return 0


def _in_the_way(place: Place, problems: dict[str, int], confirmed: bool) -> list[str]:
    """What would make `destroy` refuse, as far as it can be told now."""
    from torpor.hibernate.openfiles import open_for_writing
    from torpor.jobs import show_path

    found = [] if confirmed else ["the recovery key was never confirmed: torpor keys confirm"]
    found += [f"{count} files {kind}" for kind, count in sorted(problems.items()) if count and kind in ("unreadable", "vanished")]
    if problems.get("mount"):
        found.append(f"{problems['mount']} other file systems below, which are left out: --across-file-systems, or --accept PATH")
    if place.far is not None:
        return found  # its open files are looked at there, when it is done in earnest
    opened = open_for_writing(place.roots)
    return found + [f"open for writing: {show_path(path)}: {who}" for path, who in sorted(opened.items())]

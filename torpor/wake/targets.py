"""Is it safe to write here? Empty or new folders, merges, and the mark that tells an unfinished restore from a folder in use."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

from torpor.errors import NoSpace, TargetNotEmpty, UsageError
from torpor.jobs import RestoreJob, show_path
from torpor.wake.files import TEMPORARY, temporary_name
from torpor.wake.folders import Anchors
from torpor.workspace.excludes import MARK

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH_MAX = 4096
_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def check_apart(job: RestoreJob) -> None:
    """Raise `UsageError` for two roots in one place; with `replace` for one within another too, since each removes what is not its own."""
    places = sorted((os.path.realpath(target.path) for target in job.targets), key=lambda path: path.split(b"/"))
    for one, two in pairwise(places):
        if one == two or (job.mode == "replace" and two.startswith(one.rstrip(b"/") + b"/")):
            raise UsageError(
                f"Two folders of the snapshot would go to one place: {show_path(one)} and {show_path(two)}.",
                safe="Nothing was written.",
                remedy="Map them to folders that lie apart: --map OLD=NEW.",
            )


def anchor(job: RestoreJob, files: Iterable[int]) -> tuple[Anchors, bool]:
    """Make all targets ready and open them; True if one may hold files already, so that each must be compared.

    `files`: roots that are single files. Raises `TargetNotEmpty` if other files are there and nothing said to merge or replace.
    """
    check_apart(job)
    single = set(files)
    handles: dict[int, int] = {}
    names: dict[int, bytes] = {}
    anchors = Anchors(handles, names)
    existing = False
    try:
        for target in job.targets:
            path = os.path.abspath(target.path)
            if target.root in single:
                folder, names[target.root] = os.path.split(path)
                existing |= _prepare_file(job, path)
                if os.path.isdir(folder):
                    handles[target.root] = os.open(folder, _FOLDER)
            elif _make(job, path):
                handles[target.root] = os.open(path, _FOLDER)
                unmarked = not job.dry_run and _unfinished(handles[target.root]) is None
                existing |= _prepare(job, path, handles[target.root])
                if unmarked:
                    anchors.marked.add(target.root)
    except BaseException:
        anchors.close()
        raise
    return anchors, existing


def _make(job: RestoreJob, path: bytes) -> bool:
    """Make the folder if it is not there; False if it still is not, in a dry run."""
    if not os.path.isdir(path):
        if os.path.lexists(path):
            raise UsageError(
                f"{show_path(path)} is not a folder.",
                safe="Nothing was written.",
                remedy="Name a folder, or a path that is free.",
            )
        if job.dry_run:
            return False
        _make_all(path)
    return True


def _make_all(path: bytes) -> None:
    """Make a folder and those above it, however many. Raises `UsageError` for a path that is too long for the system."""
    if len(path) >= _PATH_MAX:
        raise UsageError(
            f"The path {show_path(path[:60])}… has {len(path):,} bytes, more than the system takes.",
            safe="Nothing was written.",
            remedy="Name a folder whose path is shorter.",
        )
    missing: list[bytes] = []
    above = path
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700 if folder == path else 0o777)


def _is_temporary(handle: int, name: str) -> bool:
    return name.startswith(TEMPORARY) and stat.S_ISREG(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)


def _prepare(job: RestoreJob, path: bytes, handle: int) -> bool:
    found = os.listdir(handle)
    if found and all(_is_temporary(handle, name) for name in found):  # killed before it had marked the folder
        for name in () if job.dry_run else found:
            os.unlink(name, dir_fd=handle)
        found = []
    if not found:
        _mark(job, handle)
        return False
    unfinished = _unfinished(handle)
    if job.mode == "new" and unfinished != job.snapshot:
        if unfinished is not None:
            raise TargetNotEmpty(
                f"{show_path(path)} holds an unfinished restore of {unfinished}.",
                safe="Nothing was written.",
                remedy=f"Finish it with `torpor restore {unfinished} …`, or use --replace, or another folder.",
            )
        raise TargetNotEmpty(
            f"{show_path(path)} holds {len(found)} other files or folders.",
            safe="Nothing was written.",
            remedy="Use a new folder, --merge to keep them, or --replace to remove what the snapshot lacks (--dry-run shows it).",
        )
    _mark(job, handle)
    return True


def _prepare_file(job: RestoreJob, path: bytes) -> bool:
    folder = os.path.dirname(path) or b"."
    if not os.path.isdir(folder) and not job.dry_run:
        _make_all(folder)
    if os.path.lexists(path):
        if job.mode == "new":
            raise TargetNotEmpty(f"{show_path(path)} is there already.", safe="Nothing was written.", remedy="Use --merge or --replace.")
        return True
    return False


def _mark(job: RestoreJob, handle: int) -> None:
    """The target may hold anything, links under the mark's own name too: the file is a new one of a name that nobody could foresee."""
    if job.dry_run:
        return
    temporary = temporary_name()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600, dir_fd=handle)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        json.dump({"snapshot": job.snapshot, "repository": job.repository}, file)
    os.rename(temporary, MARK, src_dir_fd=handle, dst_dir_fd=handle)


def _unfinished(handle: int) -> str | None:
    """The snapshot whose restore into this folder did not end."""
    try:
        with os.fdopen(os.open(MARK, os.O_RDONLY | _PLAIN, dir_fd=handle), encoding="ascii") as file:
            return str(json.loads(file.read(4096))["snapshot"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def unmark(handle: int) -> None:
    try:
        os.unlink(MARK, dir_fd=handle)
    except (FileNotFoundError, IsADirectoryError):
        return  # the snapshot holds something of that name, which took its place


def is_empty(job: RestoreJob) -> bool:
    """Whether no target holds anything yet, so that all of the snapshot must find room."""
    for target in job.targets:
        try:
            if not stat.S_ISDIR(os.stat(target.path).st_mode) or os.listdir(target.path):
                return False
        except FileNotFoundError:
            if os.path.lexists(target.path):
                return False
        except OSError:  # said by what opens it
            return False
    return True


def check_space(needs: Iterable[tuple[bytes, int]]) -> None:
    """Raise `NoSpace` before anything is written if the files can't fit. `needs`: path and bytes of each root's place."""
    by_disk: dict[int, tuple[bytes, int]] = {}
    for path, needed in needs:
        above = path
        while not os.path.exists(above):
            above = os.path.dirname(above) or b"."
        device = os.stat(above).st_dev
        by_disk[device] = (above, by_disk.get(device, (above, 0))[1] + needed)
    for path, needed in by_disk.values():
        status = os.statvfs(path)
        free = status.f_bavail * status.f_frsize
        if needed > free:
            raise NoSpace(
                f"The restore needs {needed / 1e9:.2f} GB and {show_path(path)} has {free / 1e9:.2f} GB free.",
                safe="No file was written.",
                remedy="Free space, or restore to another disk.",
            )

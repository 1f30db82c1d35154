"""Is it safe to write here? Empty or new folders, merges, and the mark that tells an unfinished restore from a folder in use."""

from __future__ import annotations

import json
import os

from torpor.errors import NoSpace, TargetNotEmpty, UsageError
from torpor.jobs import RestoreJob, Target, show_path

MARK = b".torpor-restore"


def prepare(job: RestoreJob, target: Target, directory: bool) -> bool:
    """Make a target ready; True if it may hold files already, so that each must be compared.

    Raises `TargetNotEmpty` if other files are there and nothing said to merge or replace.
    """
    path = target.path
    if not directory:
        return _prepare_file(job, path)
    if not os.path.isdir(path):
        if os.path.lexists(path):
            raise UsageError(
                f"{show_path(path)} is not a folder.",
                safe="Nothing was written.",
                remedy="Name a folder, or a path that is free.",
            )
        if job.dry_run:
            return False
        os.makedirs(path, mode=0o700)
    found = [os.fsencode(name) for name in os.listdir(path)]
    if not found:
        _mark(job, path)
        return False
    unfinished = _unfinished(path)
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
    _mark(job, path)
    return True


def _prepare_file(job: RestoreJob, path: bytes) -> bool:
    folder = os.path.dirname(path) or b"."
    if not os.path.isdir(folder) and not job.dry_run:
        os.makedirs(folder, mode=0o700)
    if os.path.lexists(path):
        if job.mode == "new":
            raise TargetNotEmpty(f"{show_path(path)} is there already.", safe="Nothing was written.", remedy="Use --merge or --replace.")
        return True
    return False


def _mark(job: RestoreJob, path: bytes) -> None:
    if job.dry_run:
        return
    temporary = os.path.join(path, MARK + b".tmp")
    with open(temporary, "w", encoding="ascii") as file:
        json.dump({"snapshot": job.snapshot, "repository": job.repository}, file)
    os.rename(temporary, os.path.join(path, MARK))


def _unfinished(path: bytes) -> str | None:
    """The snapshot whose restore into this folder did not end."""
    try:
        with open(os.path.join(path, MARK), encoding="ascii") as file:
            return str(json.load(file)["snapshot"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def unmark(path: bytes) -> None:
    for name in (MARK, MARK + b".tmp"):
        try:
            os.unlink(os.path.join(path, name))
        except FileNotFoundError:
            continue


def check_space(path: bytes, needed: int) -> None:
    """Raise `NoSpace` before anything is written if the files can't fit."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or b"."
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise NoSpace(
            f"The restore needs {needed / 1e9:.2f} GB and {show_path(path)} has {free / 1e9:.2f} GB free.",
            safe="Nothing was written.",
            remedy="Free space, or restore to another disk.",
        )

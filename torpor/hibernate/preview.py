"""What would a snapshot read? The walk of one, beside the record, without reading, writing or asking the store."""

from __future__ import annotations

import os
import stat
import time
from contextlib import closing

from torpor.events import Listener, Progress
from torpor.format import entries
from torpor.hibernate.reading import unchanged
from torpor.jobs import PreviewJob, PreviewResult, show_path
from torpor.workspace import system
from torpor.workspace.record import Record, open_record
from torpor.workspace.recorded import Recorded, recorded
from torpor.workspace.state import State, workspace_id
from torpor.workspace.walk import KERNELS, OWN, RULE, Found, walk

LISTED = 1000


def run(job: PreviewJob, listen: Listener) -> PreviewResult:
    """Count what is new, changed and gone since the record of these roots. Raises `NotFound` for a root that is not there."""
    record = None if job.rescan else _record(job)
    try:
        return _Preview(job, record, Progress(listen)).run()
    finally:
        if record is not None:
            record.close()


def _record(job: PreviewJob) -> Record | None:
    """This rental's record; the rental's id is looked at only if there is one, since looking makes it."""
    state = State(job.state)
    found = open_record(state.record(workspace_id(job.repository, job.scope.roots)))
    if found is not None and found.footer.rental != state.rental():
        found.close()
        return None
    return found


class _Preview:
    def __init__(self, job: PreviewJob, record: Record | None, progress: Progress) -> None:
        self._job = job
        self._progress = progress
        self._rows = recorded(record) if record is not None else iter(())
        self._next: Recorded | None = next(self._rows, None)
        self._seen: set[tuple[int, int]] = set()
        self._stable = all(system.stable_inodes(root) for root in job.scope.roots if os.path.exists(root))
        self._result = PreviewResult(
            snapshot=record.footer.snapshot if record is not None else None, files=0, directories=0, links=0, raw_bytes=0, new_files=0,
            new_bytes=0, changed_files=0, changed_bytes=0, gone=0, problems={}, problem_paths=[], seconds=0.0,
        )  # fmt: skip

    def run(self) -> PreviewResult:
        result = self._result
        began = time.monotonic()
        stage = self._progress.stage("scan", "files")
        with closing(walk(self._job.scope.without(self._job.state), self._report)) as there:
            for found in there:
                stage.add(1)
                old = self._match(found.key)
                mode = found.stat.st_mode
                if stat.S_ISDIR(mode):
                    result.directories += 1
                elif stat.S_ISREG(mode) and not self._is_linked(found):
                    self._file(found, old)
                else:
                    result.links += 1
        while self._next is not None:
            self._skip()
        self._progress.end("scan")
        result.seconds = round(time.monotonic() - began, 3)
        return result

    def _report(self, path: bytes, kind: str, detail: str) -> None:
        if kind in (OWN, RULE) or detail == KERNELS:
            return
        problems = self._result.problems
        problems[kind] = problems.get(kind, 0) + 1
        if len(self._result.problem_paths) < LISTED:
            self._result.problem_paths.append(f"{kind}: {show_path(path)}")

    def _match(self, key: bytes) -> Recorded | None:
        """Move the record forward to this key; what it passes is gone."""
        while self._next is not None and self._next.key < key:
            self._skip()
        if self._next is None or self._next.key != key:
            return None
        found, self._next = self._next, next(self._rows, None)
        return found

    def _skip(self) -> None:
        if self._next is not None:
            self._result.gone += self._next.block.type[self._next.row] != entries.ABSENT
            self._next = next(self._rows, None)

    def _is_linked(self, found: Found) -> bool:
        """Whether it is another name of a file that was seen."""
        if found.stat.st_nlink < 2:
            return False
        inode = (found.stat.st_dev, found.stat.st_ino)
        if inode in self._seen:
            return True
        self._seen.add(inode)
        return False

    def _file(self, found: Found, old: Recorded | None) -> None:
        result, size = self._result, found.stat.st_size
        result.files += 1
        result.raw_bytes += size
        if not os.access(found.path, os.R_OK, follow_symlinks=False):
            self._report(found.path, "unreadable", "")
        if old is None or old.block.type[old.row] == entries.ABSENT:
            result.new_files += 1
            result.new_bytes += size
        elif not unchanged(found.stat, old, self._stable):
            result.changed_files += 1
            result.changed_bytes += size

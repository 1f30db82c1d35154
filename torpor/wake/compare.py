"""What a target already holds: for --merge, --replace and for a restore that was interrupted. Only what differs is fetched."""

from __future__ import annotations

import os
import stat
import threading
from array import array
from collections.abc import Callable

from blake3 import blake3

from torpor.events import Progress
from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.wake.files import Kept, folder_in_the_way, remove_tree
from torpor.wake.folders import Folders
from torpor.wake.metadata import Metadata
from torpor.wake.survey import Survey
from torpor.wake.worker import Worker
from torpor.workspace.crew import Crew

_BATCH = 64


class Wants:
    """What must be fetched. `entry[i]` needs chunk `place[i]`; `step[i]` is the number of the reference in a large file."""

    def __init__(self) -> None:
        self.place, self.entry, self.step, self.priority = array("I"), array("I"), array("I"), array("B")
        self.in_place: set[int] = set()
        self.pieces: dict[int, int] = {}
        self.empty = array("I")
        self.bytes = 0
        self.files = 0
        self.lock = threading.Lock()

    def small(self, survey: Survey, at: int, size: int) -> None:
        with self.lock:
            self.place.append(survey.small_place[at])
            self.entry.append(survey.small[at])
            self.step.append(0)
            self.priority.append(survey.small_class[at])
            self.files += 1
            self.bytes += size

    def large(self, survey: Survey, number: int, steps: list[int], in_place: bool) -> None:
        refs = survey.refs(number)
        chunks = survey.index.chunks
        with self.lock:
            count = 0
            for step in steps:
                place = refs[step]
                if not chunks.is_hole(place):
                    self.place.append(place)
                    self.entry.append(number)
                    self.step.append(step)
                    self.priority.append(survey.large_class)
                    self.bytes += chunks.raw[place]
                    count += 1
            self.pieces[number] = count
            self.files += 1
            if in_place:
                self.in_place.add(number)


def want_everything(survey: Survey) -> Wants:
    """For an empty target."""
    wants = Wants()
    for at, number in enumerate(survey.small):
        block, row = survey.index.at(number)
        wants.small(survey, at, block.size[row])
    for number in survey.large:
        wants.large(survey, number, list(range(len(survey.refs(number)))), False)
    wants.empty = survey.empty
    wants.files += len(survey.empty)
    return wants


class Comparer:
    """Looks at each file of the target: unchanged since the record, or of the same bytes, is kept."""

    def __init__(
        self, survey: Survey, targets: dict[int, bytes], id_key: bytes, metadata: Metadata, kept: Kept, progress: Progress,
        replace: bool, dry_run: bool,
    ) -> None:  # fmt: skip
        self._survey = survey
        self._targets = targets
        self._id_key = id_key
        self._metadata = metadata
        self._kept = kept
        self._replace = replace
        self._dry_run = dry_run
        self._stage = progress.stage("compare")
        self.wants = Wants()
        self.kept_files = 0
        self.trusted: dict[int, int] = {}  # references that an earlier restore or snapshot has checked, by place

    def run(self, crew: Crew[Worker]) -> Wants:
        survey = self._survey
        self._stage.expect(survey.raw_bytes)
        for kind in (survey.small, survey.large, survey.empty):
            for at in range(0, len(kind), _BATCH):
                crew.put(self._batch(kind, at, min(at + _BATCH, len(kind))))
        crew.drain()
        return self.wants

    def _batch(self, kind: array[int], first: int, last: int) -> Callable[[object], None]:
        def work(_: object) -> None:
            folders = Folders(self._survey, self._targets)
            buffer = bytearray(CHUNK_MAX)
            try:
                for at in range(first, last):
                    self._file(folders, kind, at, memoryview(buffer))
            finally:
                folders.close()

        return work

    def _file(self, folders: Folders, kind: array[int], at: int, buffer: memoryview) -> None:
        survey = self._survey
        number = kind[at]
        block, row = survey.index.at(number)
        size = block.size[row]
        self._stage.add(size)
        try:
            handle, name = folders.place(block.parent[row], block.names[row], number)
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            self._want(kind, at, size)
            return
        if not stat.S_ISREG(status.st_mode):
            self._clear(handle, name, status)
            self._want(kind, at, size)
            return
        recorded = survey.unchanged[number] and status.st_ctime_ns == survey.ctime[number] and status.st_size == size
        if recorded and status.st_ino == survey.inode[number]:
            self._keep(handle, name, number, status)
            if survey.unchanged[number] == 2:
                self._trust(number)
            return
        if kind is survey.empty:
            (self._keep(handle, name, number, status) if status.st_size == 0 else self._want(kind, at, size))
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        try:
            if kind is survey.small:
                same = status.st_size == size and self._hash(fd, 0, size, buffer) == _id(block.content[row])
                differing = [] if same else [0]
            else:
                differing = self._steps(fd, number, status, buffer)
        finally:
            os.close(fd)
        if not differing and status.st_size == size:
            self._keep(handle, name, number, status)
        elif kind is survey.small:
            self._want(kind, at, size)
        else:
            sparse = bool(block.flags[row] & entries.SPARSE) or status.st_blocks * 512 < status.st_size
            whole = status.st_nlink > 1 or sparse
            steps = list(range(len(survey.refs(number)))) if whole else differing
            self.wants.large(survey, number, steps, not whole)

    def _steps(self, fd: int, number: int, status: os.stat_result, buffer: memoryview) -> list[int]:
        """Which references of a large file the target's bytes do not match."""
        survey = self._survey
        chunks = survey.index.chunks
        block, row = survey.index.at(number)
        extents = block.extents.get(row)
        differing: list[int] = []
        offset = 0
        for step, place in enumerate(survey.refs(number)):
            length = chunks.raw[place]
            if chunks.is_hole(place):
                hole = os.lseek(fd, offset, os.SEEK_HOLE) == offset if offset < status.st_size else False
                whole = hole and (_next_data(fd, offset, status.st_size) >= min(offset + length, status.st_size))
                if not whole:
                    differing.append(step)
            elif offset + length > status.st_size or self._hash(fd, offset, length, buffer) != chunks.id(place):
                differing.append(step)
            offset += length
        if extents is not None and not differing and status.st_blocks * 512 > _allocated(extents):
            return list(range(len(survey.refs(number))))
        return differing

    def _hash(self, fd: int, offset: int, length: int, buffer: memoryview) -> bytes:
        done = 0
        while done < length:
            got = os.preadv(fd, [buffer[done:length]], offset + done)
            if got == 0:
                return b""
            done += got
        return blake3(buffer[:length], key=self._id_key).digest()

    def _want(self, kind: array[int], at: int, size: int) -> None:
        survey = self._survey
        if kind is survey.small:
            self.wants.small(survey, at, size)
        elif kind is survey.empty:
            with self.wants.lock:
                self.wants.empty.append(kind[at])
                self.wants.files += 1
        else:
            self.wants.large(survey, kind[at], list(range(len(survey.refs(kind[at])))), False)

    def _keep(self, handle: int, name: bytes, number: int, status: os.stat_result) -> None:
        with self.wants.lock:
            self.kept_files += 1
        if self._dry_run:
            return
        block, row = self._survey.index.at(number)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
        try:
            self._metadata.apply(fd, block, row, status)
            self._kept.note(number, fd)
        finally:
            os.close(fd)

    def _trust(self, number: int) -> None:
        block, row = self._survey.index.at(number)
        content = block.content[row]
        places = [content.chunk] if isinstance(content, entries.Bundled) else list(self._survey.refs(number))
        if places:
            with self.wants.lock:
                for place in places:
                    self.trusted[place] = self.trusted.get(place, 0) + 1

    def _clear(self, handle: int, name: bytes, status: os.stat_result) -> None:
        """Something that is not a file stands where a file goes."""
        if self._dry_run:
            return
        if stat.S_ISDIR(status.st_mode) and not self._replace:
            raise folder_in_the_way(name)
        remove_tree(handle, name)


def _id(content: entries.Content) -> bytes:
    return content.id if isinstance(content, entries.Bundled) else b""


def _next_data(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:
        return size


def _allocated(extents: array[int]) -> int:
    """An upper bound of the bytes a file with these extents takes on disk: whole blocks of 4 KiB, and their maps."""
    return sum((length + 8191) // 4096 * 4096 for _, length in zip(extents[::2], extents[1::2], strict=True)) + (1 << 16)

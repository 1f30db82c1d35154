"""What a target already holds: for --merge, --replace and for a restore that was interrupted. Only what differs is fetched."""

from __future__ import annotations

import os
import stat
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Sequence

from blake3 import blake3

from torpor.errors import TargetNotEmpty
from torpor.events import Progress
from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.plan.cuts import data_ranges
from torpor.wake.files import Kept, folder_in_the_way
from torpor.wake.folders import Anchors, Folders, located
from torpor.wake.holes import fits, is_data
from torpor.wake.metadata import Metadata
from torpor.wake.removal import Remover
from torpor.wake.survey import Survey
from torpor.wake.worker import Worker
from torpor.workspace.crew import Crew

_BATCH = 64
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Wants:
    """What must be fetched. `entry[i]` needs chunk `place[i]`; `step[i]` is the number of the reference in a large file."""

    def __init__(self) -> None:
        self.place, self.entry, self.step, self.priority = array("I"), array("I"), array("I"), array("B")
        self.in_place: set[int] = set()
        self.pieces: dict[int, int] = {}
        self.empty = array("I")
        self.bytes = 0
        self.room: Counter[int] = Counter()  # bytes by root that take new space: not those written over others
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
            self.room[survey.root_of(survey.small[at])] += size

    def large(self, survey: Survey, number: int, steps: Sequence[int], in_place: bool) -> None:
        refs = survey.refs(number)
        chunks = survey.index.chunks
        with self.lock:
            count, before = 0, self.bytes
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
            else:
                self.room[survey.root_of(number)] += self.bytes - before


def want_everything(survey: Survey) -> Wants:
    """For an empty target."""
    wants = Wants()
    wants.place, wants.entry, wants.priority = survey.small_place[:], survey.small[:], survey.small_class[:]
    wants.step.frombytes(bytes(4 * len(wants.place)))
    wants.files = len(wants.place)
    wants.bytes = survey.small_bytes
    for number in survey.large:
        wants.large(survey, number, range(len(survey.refs(number))), False)
    wants.room = survey.data_bytes
    wants.empty = survey.empty
    wants.files += len(survey.empty)
    return wants


class Comparer:
    """Looks at each file of the target: unchanged since the record, or of the same bytes, is kept."""

    def __init__(
        self, survey: Survey, anchors: Anchors, id_key: bytes, metadata: Metadata, kept: Kept, progress: Progress,
        replace: bool, dry_run: bool, remover: Remover,
    ) -> None:  # fmt: skip
        self._survey = survey
        self._anchors = anchors
        self._id_key = id_key
        self._metadata = metadata
        self._kept = kept
        self._replace = replace
        self._dry_run = dry_run
        self._remover = remover
        self._stage = progress.stage("compare")
        self.wants = Wants()
        self.kept_files = 0
        self._shared: set[tuple[int, int]] = set()  # inodes with several names that were kept as one file of the snapshot
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
            folders = Folders(self._survey, self._anchors)
            buffer = bytearray(CHUNK_MAX)
            try:
                for at in range(first, last):
                    try:
                        self._file(folders, kind, at, memoryview(buffer))
                    except OSError as error:
                        raise self._located(folders, kind[at], error) from error
            finally:
                folders.close()

        return work

    def _located(self, folders: Folders, number: int, error: OSError) -> OSError:
        block, row = self._survey.index.at(number)
        name = block.names[row]
        try:
            return located(error, *folders.place(block.parent[row], name, number))
        except OSError:
            return located(error, -1, name)

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
        except (PermissionError, TargetNotEmpty):
            if not self._dry_run:
                raise
            self._want(kind, at, size)  # a link stands where a folder will be made, or a folder is shut that will be opened
            return
        if not stat.S_ISREG(status.st_mode):
            self._clear(handle, name, status)
            self._want(kind, at, size)
            return
        recorded = survey.unchanged[number] and status.st_ctime_ns == survey.ctime[number] and status.st_size == size
        try:
            fd = os.open(name, _READ, dir_fd=handle)
        except PermissionError:
            self._want(kind, at, size)
            return
        try:
            if recorded and status.st_ino == survey.inode[number]:
                if not self._keep(fd, number, status):
                    self._want(kind, at, size)
                elif survey.unchanged[number] == 2:
                    self._trust(number)
                return
            if kind is survey.empty:
                if status.st_size or not self._keep(fd, number, status):
                    self._want(kind, at, size)
                return
            extents = block.extents.get(row)
            fit = fits(fd, status, size, extents)
            if kind is survey.small:
                same = fit and status.st_size == size and self._hash(fd, 0, size, buffer) == _id(block.content[row])
                differing = [] if same else [0]
            else:
                differing = self._steps(fd, number, status, extents, buffer)
            if fit and not differing and status.st_size == size:
                if not self._keep(fd, number, status):
                    self._want(kind, at, size)
                return
        finally:
            os.close(fd)
        if (
            kind is survey.large
            and fit
            and status.st_nlink == 1
            and os.access(name, os.W_OK, dir_fd=handle, effective_ids=os.access in os.supports_effective_ids)
        ):
            self.wants.large(survey, number, differing, True)
        else:
            self._want(kind, at, size)

    def _steps(self, fd: int, number: int, status: os.stat_result, extents: array[int] | None, buffer: memoryview) -> list[int]:
        """Which references of a large file the target's bytes do not match, or leave out as holes."""
        chunks = self._survey.index.chunks
        differing: list[int] = []
        offset = 0
        for step, place in enumerate(self._survey.refs(number)):
            length = chunks.raw[place]
            if not chunks.is_hole(place) and (
                offset + length > status.st_size
                or self._hash(fd, offset, length, buffer) != chunks.id(place)
                or not all(is_data(fd, start, part) for start, part in data_ranges(offset, length, extents))
            ):
                differing.append(step)
            offset += length
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

    def _keep(self, fd: int, number: int, status: os.stat_result) -> bool:
        """Leave a file's bytes as they are; False if another file of the snapshot is kept as this very inode."""
        inode = (status.st_dev, status.st_ino)
        with self.wants.lock:
            if status.st_nlink > 1:
                if inode in self._shared:
                    return False
                self._shared.add(inode)
            self.kept_files += 1
        if not self._dry_run:
            block, row = self._survey.index.at(number)
            self._metadata.apply(fd, block, row, status)
            self._kept.note(number, fd)
        return True

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
        if stat.S_ISDIR(status.st_mode) and not self._replace:
            raise folder_in_the_way(name)
        if not self._dry_run:
            self._remover.clear(handle, name)


def _id(content: entries.Content) -> bytes:
    return content.id if isinstance(content, entries.Bundled) else b""

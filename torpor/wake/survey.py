"""One pass over a checked index: what there is to make, in compact arrays, before anything is written."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from itertools import compress

from torpor.errors import UsageError
from torpor.format import contents, entries
from torpor.format.contents import Contents, select
from torpor.format.entries import EntryBlock, decoded
from torpor.format.version import CLASS_LARGE, NONE
from torpor.plan.bundles import is_heavy, klass_of
from torpor.workspace.indexfile import IndexFile
from torpor.workspace.recorded import Known


class Survey:
    """Entries by kind. All numbers are entry numbers of the snapshot; only roots in `selected` are in it.

    `folders`: number → (parent, name), in tree order. `small`/`small_place`/`small_class` and `large` are files with content.
    `references`, `used`: by place of a chunk, how often files refer to it, and how many of its bytes they are.
    `device`/`inode`/`ctime` are one row an entry, for the new stat record; for entries that `known` has they start as recorded.
    """

    def __init__(self, index: IndexFile, selected: set[int], known: Known | None = None) -> None:
        self.index = index
        self.folders: dict[int, tuple[int, bytes]] = {}
        self.roots: dict[int, int] = {}  # entry number → root number
        self._starts: list[int] = []
        self.small, self.small_place, self.small_class = array("I"), array("I"), array("B")
        self.large = array("I")
        self.large_class = CLASS_LARGE
        self.empty = array("I")
        self.symlinks = array("I")
        self.hardlinks, self.hardlink_targets = array("I"), array("I")
        self.references = array("I", bytes(4 * len(index.chunks)))
        self.used = array("Q", bytes(8 * len(index.chunks)))
        self.raw_bytes = self.files = self.small_bytes = 0
        self.data_bytes: Counter[int] = Counter()  # by root: what a restore into an empty target writes, all but the holes
        self.unchanged = bytearray()  # 1: the record has the same content for this path; 2: and has checked these very chunks
        self.device, self.inode, self.ctime = array("Q"), array("Q"), array("q")
        self._heavy: set[int] = set()
        self._selected = selected
        self._known = known
        self._taken = bytearray()  # 1: entry is a file of a selected root
        self._root = -1
        for block in index.checked_blocks():
            self._block(block)
        zeros = bytes(8 * index.count)
        if known is None:
            self.device.frombytes(zeros)
            self.inode.frombytes(zeros)
            self.ctime.frombytes(zeros)
            self.unchanged = bytearray(index.count)

    def _block(self, block: EntryBlock) -> None:
        at = 0
        for start in _roots(block.parent):
            self._rows(block, at, start)
            at = start
            self._root += 1
            if self._root in self._selected:
                self.roots[block.base + start] = self._root
                self._starts.append(block.base + start)
        self._rows(block, at, len(block))

    def _rows(self, block: EntryBlock, first: int, last: int) -> None:
        """Rows of one root."""
        taken = self._root in self._selected
        if self._known is not None:
            for row in range(first, last):
                self._look_up(block, row, block.base + row, taken)
        content = decoded(block)
        codes = content.codes[first:last]
        if not taken:
            self._taken += bytes(len(codes))
            return
        files = codes.translate(contents.FILES)
        self._taken += files
        self.files += files.count(1)
        self.raw_bytes += sum(compress(block.size[first:last], files))
        for row in select(range(first, last), codes, contents.IS_DIRECTORY):
            parent, name = block.parent[row], block.names[row]
            self.folders[block.base + row] = (parent, name)
            if parent in self._heavy or is_heavy(name):
                self._heavy.add(block.base + row)
        numbers = range(block.base + first, block.base + last)
        self.empty.extend(select(numbers, codes, contents.IS_EMPTY))
        self.symlinks.extend(select(numbers, codes, contents.IS_SYMLINK))
        self._bundled(block, content, first, last)
        for number in select(numbers, codes, contents.IS_CHUNKED):
            self._chunked(number, content[number - block.base].refs)
        for number in select(numbers, codes, contents.IS_HARDLINK):
            self._hardlink(number, content[number - block.base])

    def _bundled(self, block: EntryBlock, content: Contents, first: int, last: int) -> None:
        codes = content.codes[first:last]
        start = content.codes.count(contents.IS_BUNDLED, 0, first)
        places = content.b_chunk[start : start + codes.count(contents.IS_BUNDLED)]
        heavy = self._heavy
        parents = select(block.parent[first:last], codes, contents.IS_BUNDLED)
        names = select(block.names[first:last], codes, contents.IS_BUNDLED)
        sizes = list(select(block.size[first:last], codes, contents.IS_BUNDLED))
        self.small.extend(select(range(block.base + first, block.base + last), codes, contents.IS_BUNDLED))
        self.small_place += places
        self.small_class.extend([klass_of(name, parent in heavy) for name, parent in zip(names, parents, strict=True)])
        for place, count in Counter(places).items():
            self.references[place] += count
        used = self.used
        for place, size in zip(places, sizes, strict=True):
            used[place] += size
        self.small_bytes += sum(sizes)
        self.data_bytes[self._root] += sum(sizes)

    def _chunked(self, number: int, refs: array[int]) -> None:
        self.large.append(number)
        raw, pack = self.index.chunks.raw, self.index.chunks.pack
        for place in refs:
            self.references[place] += 1
            self.used[place] = raw[place]
            if pack[place] != NONE:
                self.data_bytes[self._root] += raw[place]

    def _hardlink(self, number: int, first: int) -> None:
        if not self._taken[first]:
            raise UsageError(
                "Two folders of this snapshot share hard-linked files, and only one of them is restored.",
                safe="Nothing was written.",
                remedy="Restore all of its folders together.",
            )
        self.hardlinks.append(number)
        self.hardlink_targets.append(first)

    def root_of(self, number: int) -> int:
        """The root that an entry lies in."""
        return self.roots[self._starts[bisect_right(self._starts, number) - 1]]

    def refs(self, number: int) -> array[int]:
        """The references of a large file."""
        block, row = self.index.at(number)
        content = block.content[row]
        return content.refs if isinstance(content, entries.Chunked) else array("I")

    def _look_up(self, block: EntryBlock, row: int, number: int, taken: bool) -> None:
        known = self._known
        if known is None:
            return
        found = known.match(block, row, number)
        same = taken and found is not None and known.same_content(block, row, found, self.index.chunks)
        trusted = same and found is not None and known.trusts(block, row, found, self.index.chunks, self.index.head.packs)
        self.unchanged.append(same + trusted)
        if same and found is not None:
            self.device.append(found.stats.device[found.row])
            self.inode.append(found.stats.inode[found.row])
            self.ctime.append(found.stats.ctime[found.row])
        else:
            self.device.append(0)
            self.inode.append(0)
            self.ctime.append(0)


def _roots(parents: array[int]) -> list[int]:
    """The rows of roots."""
    out: list[int] = []
    for _ in range(parents.count(NONE)):
        out.append(parents.index(NONE, out[-1] + 1 if out else 0))
    return out

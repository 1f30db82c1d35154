"""One pass over a checked index: what there is to make, in compact arrays, before anything is written."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter

from torpor.errors import UsageError
from torpor.format import entries
from torpor.format.entries import EntryBlock
from torpor.format.version import CLASS_LARGE, NONE
from torpor.plan.bundles import is_heavy, klass_of
from torpor.workspace.indexfile import IndexFile
from torpor.workspace.recorded import Known


class Survey:
    """Entries by kind. All numbers are entry numbers of the snapshot; only roots in `selected` are in it.

    `folders`: number → (parent, name), in tree order. `small`/`small_place`/`small_class` and `large` are files with content.
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
        for row, kind in enumerate(block.type):
            number = block.base + row
            parent = block.parent[row]
            if parent == NONE:
                self._root += 1
                if self._root in self._selected:
                    self.roots[number] = self._root
                    self._starts.append(number)
            taken = self._root in self._selected
            self._taken.append(taken and kind == entries.FILE)
            self._look_up(block, row, number, taken)
            if not taken:
                continue
            content = block.content[row]
            if kind == entries.DIRECTORY:
                name = block.names[row]
                self.folders[number] = (parent, name)
                if parent in self._heavy or is_heavy(name):
                    self._heavy.add(number)
            elif kind == entries.FILE:
                self.files += 1
                self.raw_bytes += block.size[row]
                self._file(block, row, number, parent)
            elif kind == entries.SYMLINK:
                self.symlinks.append(number)
            elif kind == entries.HARDLINK and isinstance(content, int):
                if not self._taken[content]:
                    raise UsageError(
                        "Two folders of this snapshot share hard-linked files, and only one of them is restored.",
                        safe="Nothing was written.",
                        remedy="Restore all of its folders together.",
                    )
                self.hardlinks.append(number)
                self.hardlink_targets.append(content)

    def _file(self, block: EntryBlock, row: int, number: int, parent: int) -> None:
        content = block.content[row]
        if isinstance(content, entries.Bundled):
            self.small.append(number)
            self.small_place.append(content.chunk)
            self.small_class.append(klass_of(block.names[row], parent in self._heavy))
            self.references[content.chunk] += 1
            self.small_bytes += block.size[row]
            self.data_bytes[self._root] += block.size[row]
        elif isinstance(content, entries.Chunked):
            self.large.append(number)
            raw, pack = self.index.chunks.raw, self.index.chunks.pack
            for place in content.refs:
                self.references[place] += 1
                if pack[place] != NONE:
                    self.data_bytes[self._root] += raw[place]
        else:
            self.empty.append(number)

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

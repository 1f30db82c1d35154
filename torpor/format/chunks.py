"""The chunk list of an index (docs/format.md §7): columns of plain integers, so that millions of rows stay small in memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from torpor.errors import Malformed
from torpor.format import columns
from torpor.format.crypto import TAG
from torpor.format.pack import CHUNKS_MAX
from torpor.format.version import CHUNK_MAX, CODEC_HOLE, HOLE_MAX, NONE, PACK_MAX, ROWS_MAX

ZERO_ID = bytes(32)


class ChunkList:
    """Rows by place: pack number, chunk number, offset, sealed length, raw length, codec, id."""

    __slots__ = ("codec", "ids", "number", "offset", "pack", "raw", "sealed")

    def __init__(self) -> None:
        self.pack = array("I")
        self.number = array("I")
        self.offset = array("I")
        self.sealed = array("I")
        self.raw = array("I")
        self.codec = array("B")
        self.ids = bytearray()

    def __len__(self) -> int:
        return len(self.pack)

    def append(self, pack: int, number: int, offset: int, sealed: int, raw: int, codec: int, id: bytes) -> int:
        """Add a row; its place is returned."""
        self.pack.append(pack)
        self.number.append(number)
        self.offset.append(offset)
        self.sealed.append(sealed)
        self.raw.append(raw)
        self.codec.append(codec)
        self.ids += id
        return len(self.pack) - 1

    def append_hole(self, raw: int) -> int:
        return self.append(NONE, 0, 0, 0, raw, 0, ZERO_ID)

    def is_hole(self, place: int) -> bool:
        return self.pack[place] == NONE

    def id(self, place: int) -> bytes:
        return bytes(self.ids[place * 32 : place * 32 + 32])

    def sections(self) -> list[tuple[int, bytes]]:
        """(rows, bytes) of each section."""
        out: list[tuple[int, bytes]] = []
        for at in range(0, len(self), ROWS_MAX):
            end = min(len(self), at + ROWS_MAX)
            ints = [c[at:end] for c in (self.pack, self.number, self.offset, self.sealed, self.raw, self.codec)]
            out.append((end - at, columns.pack(*ints, self.ids[at * 32 : end * 32])))
        return out

    def extend(self, rows: int, data: bytes, packs: int) -> None:
        """Parse one section behind the rows that are here. `packs` is the length of the pack list."""
        reader = columns.Reader(data, "The index's chunk list")
        start = len(self)
        self.pack += reader.ints("I", rows)
        self.number += reader.ints("I", rows)
        self.offset += reader.ints("I", rows)
        self.sealed += reader.ints("I", rows)
        self.raw += reader.ints("I", rows)
        self.codec += reader.ints("B", rows)
        self.ids += reader.blob(rows * 32)
        reader.end()
        for i in range(start, start + rows):
            pack = self.pack[i]
            if pack == NONE:
                ok = 1 <= self.raw[i] <= HOLE_MAX and not any(
                    (self.number[i], self.offset[i], self.sealed[i], self.codec[i], self.ids[i * 32 : i * 32 + 32] != ZERO_ID)
                )
            else:
                ok = (
                    pack < packs
                    and self.number[i] < CHUNKS_MAX
                    and TAG < self.sealed[i] <= CHUNK_MAX + TAG
                    and 64 <= self.offset[i] <= PACK_MAX - self.sealed[i]
                    and 1 <= self.raw[i] <= CHUNK_MAX
                    and self.codec[i] != CODEC_HOLE
                )
            if not ok:
                raise Malformed(f"The index's chunk list has an impossible row ({i}).")

    def check_places(self, sizes: Sequence[int]) -> None:
        """Raise `Malformed` unless every row lies inside its pack, by the packs' sizes, and no two share a byte but as the same chunk."""
        places = [place for place in range(len(self)) if self.pack[place] != NONE]
        places.sort(key=lambda place: self.pack[place] << 32 | self.offset[place])
        last = -1
        for place in places:
            end = self.offset[place] + self.sealed[place]
            ok = end <= sizes[self.pack[place]]
            if last >= 0 and self.pack[last] == self.pack[place]:
                ok &= self.offset[last] + self.sealed[last] <= self.offset[place] or self._same(last, place)
            if not ok:
                raise Malformed(f"Chunk {place} of the index lies outside its pack, or over another chunk.", safe="Nothing was written.")
            last = place

    def _same(self, one: int, two: int) -> bool:
        columns = (self.number, self.offset, self.sealed, self.raw, self.codec)
        return all(column[one] == column[two] for column in columns) and self.id(one) == self.id(two)

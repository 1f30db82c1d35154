"""Where things lie in the coded bytes of `planes` (docs/format.md §6): pure arithmetic, checked before anything is decoded."""

from __future__ import annotations

import struct

import msgspec

from torpor.codecs.base import malformed

HEAD = struct.Struct("<BBBBIII")
LAYOUT = 1
FRAME_MIN = 131_072
FRAME_MAX = 4_194_304
ALIGN = 16
ZEROS = bytes(ALIGN)
_NAME = "planes"


def aligned(at: int) -> int:
    return -(-at // ALIGN) * ALIGN


class Layout(msgspec.Struct, frozen=True):
    """`lead`, `elements` of `width` bytes, `tail`. `planes`: for each, the lengths of its frames, or None where it is stored."""

    width: int
    lead: int
    tail: int
    elements: int
    frame: int
    planes: tuple[tuple[int, ...] | None, ...]

    def head(self) -> bytes:
        """Everything before the lead bytes."""
        lengths = [length for plane in self.planes if plane for length in plane]
        modes = bytes(plane is not None for plane in self.planes)
        fixed = HEAD.pack(LAYOUT, self.width, self.lead, self.tail, self.elements, self.frame, 0)
        return fixed + modes + struct.pack(f"<{len(lengths)}I", *lengths)

    def place(self) -> tuple[int, list[list[int]], int]:
        """(offset of the lead bytes, offset of each frame or of the stored bytes by plane, length of all)."""
        framed = sum(len(plane) for plane in self.planes if plane is not None)
        edges = HEAD.size + self.width + 4 * framed
        at = edges + self.lead + self.tail
        offsets: list[list[int]] = []
        for plane in self.planes:
            offsets.append([])
            for length in (self.elements,) if plane is None else plane:
                at = aligned(at)
                offsets[-1].append(at)
                at += length
        return edges, offsets, at

    def gaps(self) -> list[tuple[int, int]]:
        """(start, end) of each stretch that must hold zeros."""
        edges, offsets, _ = self.place()
        at = edges + self.lead + self.tail
        found: list[tuple[int, int]] = []
        for plane, starts in zip(self.planes, offsets, strict=True):
            for start, length in zip(starts, (self.elements,) if plane is None else plane, strict=True):
                if start > at:
                    found.append((at, start))
                at = start + length
        return found


def parse(coded: memoryview, raw_length: int) -> Layout:
    """The layout of coded bytes that stand for `raw_length` bytes. Raises `Malformed`; every offset it gives lies inside."""
    if len(coded) < HEAD.size + 2:
        raise malformed(_NAME, "it is shorter than its head")
    layout, width, lead, tail, elements, frame, zero = HEAD.unpack_from(coded)
    if layout != LAYOUT or width not in (2, 4) or zero or lead >= width or tail >= width or elements < 1:
        raise malformed(_NAME, "its head is impossible")
    if lead + elements * width + tail != raw_length:
        raise malformed(_NAME, f"it does not stand for {raw_length} bytes")
    if not FRAME_MIN <= frame <= FRAME_MAX:
        raise malformed(_NAME, f"its frames are of {frame} bytes")
    at = HEAD.size
    modes = bytes(coded[at : at + width])
    at += width
    frames = -(-elements // frame)
    framed = modes.count(1)
    if len(modes) != width or modes.count(0) + framed != width or len(coded) - at < 4 * frames * framed:
        raise malformed(_NAME, "its planes are impossible")
    planes: list[tuple[int, ...] | None] = []
    for mode in modes:
        planes.append(struct.unpack_from(f"<{frames}I", coded, at) if mode else None)
        at += 4 * frames * mode
    found = Layout(width, lead, tail, elements, frame, tuple(planes))
    if found.place()[2] != len(coded):
        raise malformed(_NAME, "its planes do not fill it")
    if any(coded[start:end] != ZEROS[: end - start] for start, end in found.gaps()):
        raise malformed(_NAME, "a gap holds something")
    return found

"""Batches of chunks through a device: copy in, kernels, copy out, so that several batches overlap.

A batch is a generator: it gives the device its work without waiting, yields the event it needs next, and in the end returns its rows.
All of a batch's bytes on the device lie in one `Room`, which is made once; nothing else is allocated.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torpor.codecs.entropy import KEEP
from torpor.codecs.planes import FRAME as FRAME_BYTES
from torpor.codecs.planes_layout import FRAME_MIN, ZEROS, Layout, aligned, parse
from torpor.errors import Malformed
from torpor.format.version import CHUNK_MAX
from torpor.gpu.coder import SLOTS, Array, Device, blocks_for
from torpor.gpu.protocol import COPY_IN, DECODE, DONE, ENCODE, REFUSED, SLOT, UNABLE, Row
from torpor.gpu.records import ALIGN, BLOCK_BYTES, BLOCK_MAX, FRAME, OK, PLAN_BYTES, THREADS

Bytes = NDArray[np.uint8]
Steps = Generator[Any, None, list[Row]]

_PLANES = CHUNK_MAX + 4 * ALIGN  # bytes of a chunk's planes, each at a multiple of 16
_FRAMES = CHUNK_MAX // FRAME_MIN + 4  # of a chunk, at most
_PER_FRAME = FRAME_BYTES // BLOCK_MAX
_MADE = CHUNK_MAX + _FRAMES * (9 + ALIGN + 3 * _PER_FRAME)  # bytes of a chunk's planes, coded by the kernels, at most
_NOTES = FRAME.itemsize + 8 + 4  # of a frame: its record, and its offset and size once it is made, or its state


class Room:
    """What a batch of `chunks` needs on the device, and of memory the host shares with it for tables."""

    def __init__(self, device: Device, chunks: int) -> None:
        self.elements = device.room(chunks * CHUNK_MAX)
        self.planes = device.room(chunks * _PLANES)
        self.coded = device.room(chunks * _MADE)
        self.blocks = device.room(chunks * _FRAMES * max(_PER_FRAME * PLAN_BYTES, SLOTS * BLOCK_BYTES))
        self.tables = device.room(chunks * _FRAMES * _NOTES + 2 * ALIGN)
        self.notes: Bytes = device.pinned(chunks * _FRAMES * _NOTES + 2 * ALIGN)

    @staticmethod
    def size(chunks: int) -> int:
        """Bytes on the device."""
        blocks = max(_PER_FRAME * PLAN_BYTES, SLOTS * BLOCK_BYTES)
        return chunks * (CHUNK_MAX + _PLANES + _MADE + _FRAMES * (blocks + _NOTES))


def run(device: Device, room: Room, memory: Bytes, kind: int, rows: Sequence[Row]) -> Steps:
    """Work on chunks that lie in `memory`, the shared slots."""
    if kind == ENCODE:
        if any(r.width not in (2, 4) or r.lead >= r.width or r.raw < r.lead + r.width or not 0 < r.wanted < 1 << r.width for r in rows):
            raise ValueError("chunks without elements, or without planes to code")
        return _encode(device, room, memory, rows)
    if kind == DECODE:
        return _decode(device, room, memory, rows)
    return _copy(device, room, memory, kind, rows)


def _copy(device: Device, room: Room, memory: Bytes, kind: int, rows: Sequence[Row]) -> Steps:
    """Raw bytes to the device, or from it: to measure the way."""
    for place, row in enumerate(rows):
        there, here = room.elements[place * CHUNK_MAX :][: row.raw], _raw(memory, row)
        if kind == COPY_IN:
            device.copy_in(there, here)
        else:
            device.copy_out(here, there)
    yield device.mark("in" if kind == COPY_IN else "out")
    return [row._replace(state=DONE) for row in rows]


def _raw(memory: Bytes, row: Row) -> Bytes:
    return memory[row.slot * SLOT :][: row.raw]


def _coded(memory: Bytes, row: Row, size: int) -> Bytes:
    return memory[row.slot * SLOT + CHUNK_MAX :][:size]


def _encode(device: Device, room: Room, memory: Bytes, rows: Sequence[Row]) -> Steps:
    frames: list[tuple[int, int, int, int]] = []
    spans: list[list[tuple[int, int] | None]] = []  # of each chunk's planes: which frames
    for place, row in enumerate(rows):
        count = (row.raw - row.lead) // row.width
        device.copy_in(room.elements[place * CHUNK_MAX :][: count * row.width], _raw(memory, row)[row.lead :][: count * row.width])
        spans.append([])
        for plane in range(row.width):
            first = len(frames)
            if row.wanted >> plane & 1:
                base = place * _PLANES + plane * aligned(count)
                frames += [(base + at, 0, 0, min(FRAME_BYTES, count - at)) for at in range(0, count, FRAME_BYTES)]
            spans[-1].append((first, len(frames)) if len(frames) > first else None)
    table = np.array(frames, FRAME)
    notes, tables = room.notes, room.tables
    notes[: table.nbytes] = table.view(np.uint8)
    device.copy_in(tables[: table.nbytes], notes[: table.nbytes])
    device.after("work", device.mark("in"))
    for place, row in enumerate(rows):
        count = (row.raw - row.lead) // row.width
        _split(device, room, place, row.width, count)
    capacity = aligned(sum(raw for *_, raw in frames) + len(frames) * (9 + ALIGN + 3 * _PER_FRAME))
    device.clear(room.coded[:capacity])
    blocks = len(frames) * _PER_FRAME
    offsets, sizes = table.nbytes, table.nbytes + 8 * len(frames)
    total = aligned(sizes + 4 * len(frames))
    device.launch("plan_blocks", blocks, [room.planes, tables, np.uint32(_PER_FRAME), room.blocks])
    device.launch(
        "place_blocks", 1, [room.blocks, np.uint64(len(frames)), np.uint32(_PER_FRAME), tables[offsets:], tables[sizes:], tables[total:]]
    )
    device.after("out", device.mark("work"))
    device.copy_out(notes[offsets:total], tables[offsets:total])
    known = device.mark("out")
    device.launch("write_blocks", blocks, [room.planes, room.blocks, room.coded, np.uint64(capacity)])
    written = device.mark("work")
    yield known
    starts = notes[offsets:sizes].view(np.uint64).tolist()
    lengths = notes[sizes : sizes + 4 * len(frames)].view(np.uint32).tolist()
    device.after("out", written)
    done = [
        _lay_out(device, room, memory, place, row, [None if s is None else (starts[slice(*s)], lengths[slice(*s)]) for s in span])
        for place, (row, span) in enumerate(zip(rows, spans, strict=True))
    ]
    yield device.mark("out")
    return done


def _split(device: Device, room: Room, place: int, width: int, count: int) -> None:
    elements = room.elements[place * CHUNK_MAX :]
    planes = [room.planes[place * _PLANES + plane * aligned(count) :] for plane in range(width)]
    device.launch(f"split{width}", blocks_for(count * width), [elements, np.uint64(count), *planes])


def _lay_out(device: Device, room: Room, memory: Bytes, place: int, row: Row, made: list[tuple[list[int], list[int]] | None]) -> Row:
    """Bring a chunk's planes to where the format wants them, and write what lies round them."""
    count = (row.raw - row.lead) // row.width
    kept = [None if found is None or sum(found[1]) > KEEP * count else found for found in made]
    if not any(kept):
        return row._replace(state=REFUSED)
    tail = row.raw - row.lead - count * row.width
    layout = Layout(row.width, row.lead, tail, count, FRAME_BYTES, tuple(None if found is None else tuple(found[1]) for found in kept))
    edges, offsets, size = layout.place()
    if size >= row.raw:
        return row._replace(state=REFUSED)
    raw, coded = _raw(memory, row).data, _coded(memory, row, size).data
    coded[:edges] = layout.head()
    coded[edges : edges + row.lead] = raw[: row.lead]
    coded[edges + row.lead : edges + row.lead + tail] = raw[row.raw - tail :]
    for start, end in layout.gaps():
        coded[start:end] = ZEROS[: end - start]
    for plane, (found, starts) in enumerate(zip(kept, offsets, strict=True)):
        if found is None:
            there = room.planes[place * _PLANES + plane * aligned(count) :][:count]
        else:
            # Its frames lie as far apart as they will, with zeros between them.
            there = room.coded[found[0][0] : found[0][-1] + found[1][-1]]
        device.copy_out(_coded(memory, row, size)[starts[0] : starts[0] + len(there)], there)
    return row._replace(state=DONE, coded=size)


def _decode(device: Device, room: Room, memory: Bytes, rows: Sequence[Row]) -> Steps:
    frames: list[tuple[int, int, int, int]] = []
    plans: list[tuple[Layout, list[list[int]], int, int] | None] = []
    for place, row in enumerate(rows):
        coded = _coded(memory, row, row.coded)
        try:
            layout = parse(coded.data, row.raw)
        except Malformed:
            plans.append(None)
            continue
        _, offsets, _ = layout.place()
        first, count = len(frames), layout.elements
        device.copy_in(room.coded[place * CHUNK_MAX :][: row.coded], coded)
        for plane, (lengths, starts) in enumerate(zip(layout.planes, offsets, strict=True)):
            to = place * _PLANES + plane * aligned(count)
            for number, (length, start) in enumerate(zip(lengths or (), starts, strict=lengths is not None)):
                at = number * layout.frame
                frames.append((place * CHUNK_MAX + start, to + at, length, min(layout.frame, count - at)))
        plans.append((layout, offsets, first, len(frames)))
    table = np.array(frames, FRAME)
    notes, tables, size = room.notes, room.tables, table.nbytes
    notes[:size] = table.view(np.uint8)
    if frames:
        device.copy_in(tables[:size], notes[:size])
    device.after("work", device.mark("in"))
    states = tables[size:][: 4 * len(frames)]
    if frames:
        known = [tables, np.uint64(len(frames)), np.uint64(len(rows) * _PLANES), np.uint32(SLOTS), room.blocks, states]
        blocks = -(-len(frames) // THREADS["read_frames"])
        device.launch("read_frames", blocks, [room.coded, np.uint64(len(rows) * CHUNK_MAX), *known])
        device.launch("decode_blocks", len(frames) * SLOTS, [room.coded, room.blocks, room.planes, states])
    for place, plan in enumerate(plans):
        if plan is not None:
            _merge(device, room, place, plan[0], plan[1])
    device.after("out", device.mark("work"))
    for place, (row, plan) in enumerate(zip(rows, plans, strict=True)):
        if plan is not None:
            layout = plan[0]
            length = layout.elements * layout.width
            device.copy_out(_raw(memory, row)[layout.lead :][:length], room.elements[place * CHUNK_MAX :][:length])
    if frames:
        device.copy_out(notes[size:][: 4 * len(frames)], states)
    yield device.mark("out")
    found = notes[size:][: 4 * len(frames)].view(np.uint32) == OK
    return [_finish(memory, row, plan, found) for row, plan in zip(rows, plans, strict=True)]


def _merge(device: Device, room: Room, place: int, layout: Layout, offsets: list[list[int]]) -> None:
    count, planes = layout.elements, list[Array]()
    for plane, (lengths, starts) in enumerate(zip(layout.planes, offsets, strict=True)):
        stored = room.coded[place * CHUNK_MAX + starts[0] :] if lengths is None else None
        planes.append(room.planes[place * _PLANES + plane * aligned(count) :] if stored is None else stored)
    elements = room.elements[place * CHUNK_MAX :]
    device.launch(f"merge{layout.width}", blocks_for(count * layout.width), [*planes, np.uint64(count), elements])


def _finish(memory: Bytes, row: Row, plan: tuple[Layout, list[list[int]], int, int] | None, found: NDArray[np.bool_]) -> Row:
    if plan is None or not found[plan[2] : plan[3]].all():
        return row._replace(state=UNABLE)
    layout = plan[0]
    edges = layout.place()[0]
    raw, coded = _raw(memory, row), _coded(memory, row, row.coded)
    raw[: layout.lead] = coded[edges : edges + layout.lead]
    raw[row.raw - layout.tail :] = coded[edges + layout.lead :][: layout.tail]
    return row._replace(state=DONE)

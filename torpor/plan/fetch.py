"""In which order chunks are fetched, and which of them share a request."""

from __future__ import annotations

from array import array
from itertools import compress, groupby
from typing import NamedTuple

from torpor.format.chunks import ChunkList
from torpor.plan.limits import SPAN

GAP = 128 * 1024  # unneeded bytes between two chunks that are fetched along rather than asked for apart


class Piece(NamedTuple):
    """One chunk of a unit: its place in the chunk list, and which wants it serves (a slice of the sorted wants)."""

    place: int
    first: int
    last: int


class Unit(NamedTuple):
    """One request: `length` bytes at `start` of pack number `pack`, for these chunks. `priority`: the pack class they serve."""

    priority: int
    pack: int
    start: int
    length: int
    pieces: list[Piece]


def order(places: array[int], priorities: array[int], chunks: ChunkList) -> list[int]:
    """The order in which wants are served: by priority, then pack, then place in the pack. Indices into the wants.

    A chunk that several wants share is served once, at its most urgent one.
    """
    urgent = bytearray(b"\xff" * len(chunks))
    for priority in sorted(set(priorities), reverse=True):
        for place in set(compress(places, priorities.tobytes().translate(bytes(byte == priority for byte in range(256))))):
            urgent[place] = priority
    pack, offset = chunks.pack, chunks.offset
    # Many wants share a chunk, so chunks are sorted first.
    ranked = sorted(set(places), key=lambda place: urgent[place] << 64 | pack[place] << 32 | offset[place])
    rank = array("I", bytes(4 * len(chunks)))
    for number, place in enumerate(ranked):
        rank[place] = number
    keys = [rank[place] for place in places]
    return sorted(range(len(keys)), key=keys.__getitem__)


def units(wanted: list[int], places: array[int], priorities: array[int], chunks: ChunkList) -> list[Unit]:
    """Requests for wants that stand in `order`."""
    out: list[Unit] = []
    at = 0
    for place, run in groupby(map(places.__getitem__, wanted)):
        end = at + len(list(run))
        priority = min(map(priorities.__getitem__, wanted[at:end]))
        piece = Piece(place, at, end)
        pack, start = chunks.pack[place], chunks.offset[place]
        stop = start + chunks.sealed[place]
        last = out[-1] if out else None
        if (
            last is not None
            and last.pack == pack
            and last.priority == priority
            and 0 <= start - (last.start + last.length) <= GAP
            and stop - last.start <= SPAN
        ):
            last.pieces.append(piece)
            out[-1] = last._replace(length=stop - last.start)
        else:
            out.append(Unit(priority, pack, start, stop - start, [piece]))
        at = end
    return out


def apart(units: list[Unit], lanes: int) -> list[Unit]:
    """The same units, so that `lanes` threads which take one after the other work in different places.

    Neighbours write to one file, and the kernel lets one thread at a time write to a file.
    """
    step = max(1, -(-len(units) // lanes))
    return [units[at] for first in range(step) for at in range(first, len(units), step)]

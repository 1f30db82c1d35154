"""What a codec is, and the working memory a worker thread lends it."""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap
from typing import Protocol

import msgspec

from torpor.errors import Malformed
from torpor.format.zstd import lib  # type: ignore[attr-defined]
from torpor.native.coding import Contexts, Native
from torpor.pages import pages

Buffer = bytes | bytearray | memoryview


class Hint(msgspec.Struct, frozen=True):
    """What the chooser found out about a chunk; a codec takes what it can use.

    `width`: bytes of an array's elements (2 or 4; 0: unknown); `lead`: bytes before the first whole element, less than `width`.
    `level`: zstd's level (0: the codec's default). `expected`: coded bytes for each raw byte, as estimated.
    `header`: (width, lead) as the file's header has it, for the chooser's own memory.
    """

    width: int = 0
    lead: int = 0
    level: int = 0
    expected: float = 1.0
    header: tuple[int, int] | None = None


NO_HINT = Hint()


class Scratch:
    """Buffers and compressors of one worker thread, so that nothing large is allocated for a chunk. Never shared by threads."""

    __slots__ = ("_buffers", "_compressors", "_contexts")

    def __init__(self) -> None:
        self._buffers: dict[str, mmap] = {}
        self._compressors: dict[tuple[tuple[int, int], ...], lib.ZstdCompressor] = {}
        self._contexts: Contexts | None = None

    def buffer(self, name: str, size: int) -> memoryview:
        """`size` writable bytes with whatever was left in them; the next call with this `name` gives the same bytes."""
        held = self._buffers.get(name)
        if held is None or len(held) < size:
            # A fresh object, not a longer one: somebody may still look at the old.
            held = self._buffers[name] = pages(max(size, 1))
        return memoryview(held)[:size]

    def compressor(self, options: Mapping[int, int]) -> lib.ZstdCompressor:
        """A zstd compressor with these parameters, between two frames."""
        key = tuple(options.items())
        found = self._compressors.get(key)
        if found is None:
            found = self._compressors[key] = lib.ZstdCompressor(options=options)
        return found

    def contexts(self, native: Native) -> Contexts:
        """What the compiled path uses instead; freed with this object."""
        if self._contexts is None:
            self._contexts = Contexts(native)
        return self._contexts


class Codec(Protocol):
    """One byte format. Instances hold no state of a chunk: any number of threads may use one, each with its own `Scratch`."""

    @property
    def id(self) -> int: ...

    @property
    def name(self) -> str: ...

    def encode(self, data: Buffer, scratch: Scratch, hint: Hint = NO_HINT) -> Buffer | None:
        """The coded bytes; None if they would not be fewer than `data`'s (then the chunk is stored raw).

        `data`: 1 … `CHUNK_MAX` bytes. The result may lie in `scratch`: it is valid until the next `encode` with that scratch.
        """

    def decode(self, coded: Buffer, raw_length: int, out: memoryview, scratch: Scratch) -> None:
        """Write exactly `raw_length` bytes into `out`, which has that length.

        Raises `Malformed` for bytes this codec can't have written for that length; `out` may then hold anything.
        Whatever `coded` holds, time and memory stay bounded by its length and `raw_length`.
        """


def malformed(codec: str, why: str) -> Malformed:
    return Malformed(f"A chunk coded as {codec} is refused: {why}.", safe="Nothing of it was used.")

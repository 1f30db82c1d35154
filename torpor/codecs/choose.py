"""Which codec for which chunk: told from the bytes and the file's header, never from its name."""

from __future__ import annotations

from threading import get_ident

import msgspec

from torpor.codecs.arrays import Arrays, Element
from torpor.codecs.base import NO_HINT, Buffer, Codec, Hint
from torpor.codecs.entropy import byte_bits, huffman_part, plane_bits, planes_part, sample
from torpor.codecs.header import read_header
from torpor.codecs.table import by_id, by_name
from torpor.codecs.zstd import DEFAULT_LEVEL, HUFFMAN
from torpor.errors import UsageError
from torpor.format.version import CLASS_CRITICAL, CLASS_LARGE, CODEC_PLANES, CODEC_RAW, CODEC_ZSTD
from torpor.format.zstd import compress

# Code and configuration are little and asked for first: level 3 makes them a tenth smaller than level 1 for 1.4 times the work.
# Libraries are much: there level 3 costs 1.6 times the time for 13% less.
CRITICAL_LEVEL = 3
LEVEL_MAX = 19

WORTH = 0.97  # a chunk is stored raw unless it shrinks to this part
DRIFT = 0.05  # how far a chunk may miss its estimate before the file is looked at anew
RELY = 16  # chunks taken without a look, at most

UNLIKE = 0.2  # bits by which the bytes at one place of an element differ from those at another, at least

_SMALL = 16 * 1024  # below, looking costs more than coding
_ELEMENTS = [Element(width, lead) for width in (2, 4) for lead in range(width)]

Choice = tuple[Codec, Hint]


class _Memory(msgspec.Struct):
    """The last outcome; `steady`: it was foreseen; `left`: chunks that may rely on it before the next look."""

    choice: Choice
    steady: bool
    left: int


class Chooser:
    """Chooses for the chunks of one file, or for bundles of one class; remembers what worked, so that few chunks are looked at.

    Several threads may share one: each calls `choose`, encodes, and tells with `outcome` what came of it.
    """

    def __init__(self, policy: str = "auto", level: int = 0, kind: int = CLASS_LARGE) -> None:
        """`policy`: "auto" or a codec's name. `level`: zstd's, 1 … 19; 0 leaves it to torpor. `kind`: the pack class.

        Raises `UsageError`, `MissingDependency`.
        """
        if not 0 <= level <= LEVEL_MAX:
            raise UsageError(f"zstd has no level {level}.", remedy=f"Give 1 to {LEVEL_MAX}, or 0 for torpor's choice.")
        self._level = level
        self._hint = Hint(level=level or (CRITICAL_LEVEL if kind == CLASS_CRITICAL else DEFAULT_LEVEL))
        self._fixed = None if policy == "auto" else (by_name(policy), self._hint)
        self._arrays: Arrays | None = None
        # By what the header says of a chunk: a file may hold several kinds of arrays.
        self._memory: dict[tuple[int, int] | None, _Memory] = {}
        # What each thread was told last.
        self._pending: dict[int, Choice] = {}
        if policy == "auto":
            self._raw, self._zstd, self._planes = by_id(CODEC_RAW), by_id(CODEC_ZSTD), by_id(CODEC_PLANES)

    def begin(self, fd: int, size: int, path: bytes = b"") -> tuple[int, int]:
        """Look at the head of a file of `size` bytes: (bytes of its first step or 0, chunker id). Raises `OSError`."""
        header = read_header(fd, size)
        self._arrays = header.arrays
        self._memory.clear()
        return header.first, header.chunker

    def choose(self, data: Buffer, offset: int | None = None) -> Choice:
        """The codec for a chunk that begins at `offset` of its file, and what to tell the codec.

        Without an offset the file's header is no help; the bytes still tell.
        """
        if self._fixed is not None:
            return self._fixed
        if len(data) < _SMALL:
            self._pending.pop(get_ident(), None)  # and nothing is learned from it
            return self._zstd, self._hint
        choice = self._choose(data, offset)
        self._pending[get_ident()] = choice
        return choice

    def outcome(self, raw_length: int, coded_length: int) -> None:
        """What became of the chunk that this thread asked about last; `raw_length` twice if it is stored raw."""
        choice = self._pending.pop(get_ident(), None)
        if choice is None:
            return
        codec, hint = choice
        part = coded_length / raw_length
        before = self._memory.get(hint.header)
        steady = abs(hint.expected - part) <= DRIFT
        if before is not None and before.choice[0] is codec:
            # An estimate may be off for a whole file; two chunks that agree are as good.
            steady = steady or abs(before.choice[1].expected - part) <= DRIFT
        left = RELY if before is None else before.left
        self._memory[hint.header] = _Memory((codec, msgspec.structs.replace(hint, expected=part)), steady, left)

    def _choose(self, data: Buffer, offset: int | None) -> Choice:
        header = None if self._arrays is None or offset is None else self._arrays.dtype_at(offset, len(data))
        memory = self._memory.get(header)
        if memory is not None and memory.steady and memory.left > 0:
            memory.left -= 1
            # Raw bytes cost nothing to code, so a look at each chunk is the only way to notice that they became something else.
            if memory.choice[0] is not self._raw or _trial(_taste(data)) > WORTH:
                return memory.choice
        if memory is not None:
            memory.left = RELY
        codec, hint = self._probe(data, _ELEMENTS if header is None else [header] if header.width else [])
        return codec, msgspec.structs.replace(hint, header=header)

    def _probe(self, data: Buffer, elements: list[Element]) -> Choice:
        taste = _taste(data)
        best = (self._zstd, msgspec.structs.replace(self._hint, expected=_trial(taste)))
        some = sample(memoryview(taste), 8, 2048)
        (bits,) = byte_bits(some)
        if not self._level and (part := huffman_part(bits)) < best[1].expected:
            # Bytes of uneven frequency and no repetition, such as 8-bit floats.
            best = (self._zstd, Hint(level=HUFFMAN, expected=part))
        if elements and (element := _likeliest(sample(memoryview(taste), 8, 1024), elements)):
            part = planes_part(plane_bits(some, *element))
            if part < best[1].expected:
                best = (self._planes, Hint(element.width, element.lead, expected=part))
        return best if best[1].expected <= WORTH else (self._raw, NO_HINT)


def _likeliest(few: bytes, elements: list[Element]) -> Element | None:
    """The elements that `few` bytes look most like; None if bytes look alike at all places, as in text and in noise."""
    if len(elements) == 1:
        return elements[0]
    places = byte_bits(few, 4)
    if max(places) - min(places) < UNLIKE:
        return None
    twos = max(abs(places[0] - places[2]), abs(places[1] - places[3])) < UNLIKE
    likely = [element for element in elements if (element.width == 2) == twos]
    # A wrong phase costs a hundredth at most: the exponent's bits then come from two neighbours. So where phases look alike, the
    # one that is aligned in memory is taken, which is a tenth faster.
    return min(likely, key=lambda element: planes_part(plane_bits(few, *element)) + 0.004 * (element.lead > 0))


def _taste(data: Buffer) -> bytes:
    return sample(memoryview(data), 8, 8192)


def _trial(taste: bytes) -> float:
    return len(compress(taste, 1)) / len(taste)

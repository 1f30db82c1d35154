"""Small bytes that speak of huge things: no parser takes memory for what it has not got."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from tests.properties import parsers
from torpor.errors import Malformed, TorporError
from torpor.format import entries, index, pack, zstd
from torpor.format.chunks import ChunkList
from torpor.format.version import FREE_ROWS, ROWS_MAX, SECTION_MAX
from torpor.workspace import journal
from torpor.workspace.indexfile import IndexFile

MIB = 1 << 20


def peak(call: Callable[[], object]) -> int:
    """Bytes that a call held at most, whether it raised or not; it must raise a typed error or return."""
    gc.collect()
    tracemalloc.start()
    try:
        with suppress(TorporError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def head(**fields: int) -> bytes:
    values = {"version": 1, "zero": 0, "size": 32, "sections": 0, "packs": 0, "names": 0, "last": 0} | fields
    return index.HEAD.pack(index.MAGIC, *values.values())


def sections(kinds: list[tuple[int, int, int, int]]) -> bytes:
    """A whole index of sections (kind, rows, sealed, raw) that hold noise."""
    made = index.encode_head([index.Section(*kind) for kind in kinds], [])
    return made + bytes(sum(kind[2] for kind in kinds))


def open_index(data: bytes) -> IndexFile:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return IndexFile(file.fileno(), parsers.REPOSITORY, parsers.WRITER, parsers.SNAPSHOT, bytes(32))


def absurd() -> Iterator[tuple[str, Callable[[], object]]]:
    """Small bytes that speak of huge things."""
    for field in ("size", "sections", "packs", "names"):
        for value in (1 << 20, 1 << 30, 0xFFFFFFFF):
            yield f"head with {field}={value}", partial(index.parse_head, head(**{field: value}), "x")
    yield "index of a head of 1 GiB", lambda: open_index(head(size=1 << 30))
    yield "a section of 4 GiB", lambda: open_index(sections([(1, 1, 0, 9), (3, 1, 17, 9)])[:-17] + bytes(17))
    yield "a raw section of 64 MiB", lambda: open_index(sections([(1, 1, 17, index.JSON_MAX), (3, 9, 17, SECTION_MAX)]))
    for rows in (10**9, 0xFFFFFFFF):
        yield f"entries: {rows} rows", partial(entries.decode, 0, rows, bytes(64))
        yield f"chunks: {rows} rows", partial(ChunkList().extend, rows, bytes(64), 1)
    yield "columns of 4 GiB", lambda: entries.decode(0, 1, b"\xff" * 400)
    yield "references without end", lambda: entries.decode(0, 1, parsers.entry_with_counts(refs=0xFFFFFFFF))
    yield "extents without end", lambda: entries.decode(0, 1, parsers.entry_with_counts(extents=0xFFFFFFFF))
    yield "attributes of 4 GiB", lambda: entries.decode_attributes(b"\xff" * 6)
    bomb = zstd.compress(bytes(64 * MIB))
    for raw in (0, 1, MIB, 64 * MIB - 1, 1 << 32):
        yield f"64 MiB of zeros as {raw} bytes", partial(zstd.decompress, bomb, raw)
    lying = bytearray(zstd.compress(b"x" * 300))
    lying[4:6] = b"\xff\xff"
    yield "a frame that lies", lambda: zstd.decompress(lying, 65_535 + 256)
    yield (
        "a table of 64 MiB",
        lambda: pack.parse_header(pack.HEADER.pack(pack.MAGIC, 1, 1, 0, 65_535, 1 << 26, 65_535 * 48 + 16, 0, b""), "x"),
    )
    for frame in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7fabc", b"\5\0\0\0\xdf\xff\xff\xff\xff", b"\5\0\0\0\xdd\xff\xff\xff\xff"):
        yield f"journal {frame!r}", partial(parsers.with_file, frame, journal.read)


@pytest.mark.parametrize(("what", "call"), list(absurd()), ids=lambda value: value if isinstance(value, str) else "")
def test_absurd_sizes_take_no_memory(what: str, call: Callable[[], object]) -> None:
    assert peak(call) < 3 * MIB


def test_a_section_longer_than_any_frame_is_refused() -> None:
    for sealed in (0xFFFFFFFF, SECTION_MAX + 2 * MIB):
        made = index.encode_head([index.Section(index.META, 1, sealed, 9), index.Section(index.ENTRIES, 1, 17, 9)], [])
        with pytest.raises(Malformed):
            index.parse_head(made, "x")


@pytest.mark.parametrize("count", [32, 15_259])
def test_a_small_index_of_a_billion_chunks_is_refused_before_one_is_read(count: int) -> None:
    """A chunk list compresses to nothing if its ids repeat; real ids do not."""
    made = sections([(1, 1, 17, 9), (3, 1, 17, 9), *[(2, ROWS_MAX, 300, 53 * ROWS_MAX)] * count])
    assert count * ROWS_MAX > FREE_ROWS + len(made) // 32
    with pytest.raises(Malformed, match="impossible head"):
        index.parse_head(made, "x")
    fits = sections([(1, 1, 17, 9), (3, 1, 17, 9), *[(2, ROWS_MAX, 300, 53 * ROWS_MAX)] * 16])
    assert len(index.parse_head(fits, "x").sections) == 18


def test_a_real_bomb_stops_at_the_declared_size() -> None:
    """Sealed as it should be: a section that says 100 bytes and holds 64 MiB."""
    sealer = index.Sections(parsers.REPOSITORY, parsers.WRITER, bytes(32))
    frame = zstd.compress(bytes(64 * MIB))
    section, sealed = sealer.seal(0, index.META, 1, 100, frame)
    with pytest.raises(Malformed):
        sealer.open(0, section, sealed)
    assert peak(lambda: sealer.open(0, section, sealed)) < MIB

"""The compiled check of an entry list and the one in Python: the same verdict, the same words, the same state, on any bytes."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import parsers
from tests.properties.test_parsers import EXTREMES, mutated, often
from torpor.errors import Malformed
from torpor.format import entries
from torpor.format.entries import Bundled, Chunked, EntryBlock
from torpor.format.tree import DEPTH_MAX, TreeCheck
from torpor.format.version import NONE
from torpor.native import kernels
from torpor.workspace.treecheck import CompiledCheck

ROOTS = [(b"work", True), (b"s", False)]
NAMES = [b"", b".", b"..", b"...", b"a", b"b", b"ab", b"work", b"s", b"a/b", b"a\0b", b"\xff", b"n" * 255, b"n" * 256, b"n" * 254 + b"/"]
values = st.sampled_from(EXTREMES) | st.integers(0, 1100) | st.integers(0, 8)

Verdict = tuple[str, tuple[int, int, int, int]]


def verdict(check: TreeCheck, sections: list[tuple[int, int, bytes]]) -> Verdict:
    said = ""
    try:
        for base, rows, data in sections:
            check.block(entries.decode(base, rows, data))
        assert check.end() == sum(rows for _, rows, _ in sections)
    except Malformed as error:
        said = error.what
    return said, (check.files, check.directories, check.links, check.raw_bytes)


def agree(sections: list[tuple[int, int, bytes]], roots: list[tuple[bytes, bool]] = ROOTS) -> bool:
    """Whether both let it through; that they agree is asserted, and that nobody asked Python about what is fine."""
    compiled, by_hand = CompiledCheck(parsers.chunk_list(), roots), TreeCheck(parsers.chunk_list(), roots)
    one, two = verdict(compiled, sections), verdict(by_hand, sections)
    assert one == two
    if not one[0]:
        assert compiled._lib is not None
    return not one[0]


def cut(block: EntryBlock, at: int) -> list[tuple[int, int, bytes]]:
    """The rows of a block that begins at 0 as two sections."""
    parts = []
    for first, last in ((0, at), (at, len(block))):
        part = EntryBlock(first)
        for name in ("parent", "names", "type", "mode", "uid", "gid", "mtime", "size", "flags", "content"):
            setattr(part, name, getattr(block, name)[first:last])
        part.extents = {row - first: value for row, value in block.extents.items() if first <= row < last}
        part.attributes = {row - first: value for row, value in block.attributes.items() if first <= row < last}
        parts.append((first, len(part), part.encode()))
    return parts


def with_file(block: EntryBlock) -> EntryBlock:
    row = block.add(NONE, b"s", entries.FILE, 0o600, 0, 0, 0, 300)
    block.content[row] = Bundled(0, 0, b"d" * 32)
    return block


def test_the_sample_passes_wherever_it_is_cut() -> None:
    assert kernels.library() is not None
    for at in range(len(parsers.block()) + 2):
        assert agree(cut(with_file(parsers.block()), at))


contents: st.SearchStrategy[Any] = (
    st.none()
    | st.builds(Bundled, st.integers(0, 4), values.map(lambda value: value & 0xFFFFFFFF), st.just(b"i" * 32))
    | st.builds(Chunked, st.just(1), st.lists(st.sampled_from([0, 1, 1, 2, 3, NONE]), max_size=3).map(lambda refs: array("I", refs)))
)
targets = st.sampled_from([b"", b"x", b"x\0", b"t" * 4095, b"t" * 4096])
attributes = st.lists(
    st.tuples(st.sampled_from([b"user.a", b"user.", b"user", b"trusted.x", b"system.posix_acl_access", b"user.\0"]), st.binary(max_size=4)),
    max_size=2,
)


def change(block: EntryBlock, data: st.DataObject) -> None:
    """Something of one row becomes something else."""
    row = data.draw(st.integers(0, len(block) - 1))
    what = data.draw(st.sampled_from(["parent", "names", "type", "mode", "size", "flags", "content", "extents", "attributes"]))
    if what == "names":
        block.names[row] = data.draw(st.sampled_from(NAMES))
    elif what == "content":
        kind = block.type[row]
        new = {entries.FILE: contents, entries.SYMLINK: targets, entries.HARDLINK: values.map(lambda value: value & 0xFFFFFFFF)}
        block.content[row] = data.draw(new.get(kind, st.none()))
        if data.draw(st.booleans()) and isinstance(block.content[row], Chunked | Bundled):
            block.size[row] = data.draw(st.sampled_from([30, 300, 40, 340, 1040]))
    elif what == "extents":
        block.flags[row] |= entries.SPARSE
        block.extents[row] = array("Q", data.draw(st.lists(values, max_size=2).map(lambda drawn: drawn * 2)))
    elif what == "attributes":
        block.flags[row] |= entries.ATTRIBUTES
        encoded = entries.encode_attributes(data.draw(attributes))
        block.attributes[row] = encoded[: len(encoded) - data.draw(st.sampled_from([0, 0, 0, 1, 5]))]
    else:
        column = getattr(block, what)
        column[row] = data.draw(values) & ((1 << 8 * column.itemsize) - 1)


@settings(max_examples=600, deadline=None, database=None)
@given(st.data())
def test_changed_rows(data: st.DataObject) -> None:
    block = with_file(parsers.block())
    for _ in range(data.draw(st.integers(1, 2))):
        change(block, data)
    agree(cut(block, data.draw(st.integers(0, len(block)))))


@often
@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    agree([(0, 7, data.draw(mutated([parsers.block().encode()])))], ROOTS[:1])


@often
@given(st.data())
def test_trees(data: st.DataObject) -> None:
    block = data.draw(parsers.trees())
    agree(cut(block, data.draw(st.integers(0, len(block)))), [(b"r", True), (b"s", False)])


def test_trees_as_deep_as_may_be() -> None:
    block = EntryBlock(0)
    block.add(NONE, b"work", entries.DIRECTORY, 0o755, 0, 0, 0, 0)
    for number in range(1, DEPTH_MAX):
        block.add(number - 1, b"n" * (number % 255 + 1), entries.DIRECTORY, 0o755, 0, 0, 0, 0)
    assert agree(cut(block, 2000), ROOTS[:1])
    block.add(0, b"z", entries.DIRECTORY, 0o755, 0, 0, 0, 0)
    assert agree(cut(block, DEPTH_MAX), ROOTS[:1])
    block.add(DEPTH_MAX - 1, b"z", entries.DIRECTORY, 0o755, 0, 0, 0, 0)
    assert not agree(cut(block, DEPTH_MAX), ROOTS[:1])
    block.parent[-1] = DEPTH_MAX - 2
    assert not agree(cut(block, DEPTH_MAX), ROOTS[:1])


def test_sizes_add_up_to_no_more_than_there_is() -> None:
    block = EntryBlock(0)
    block.add(NONE, b"work", entries.DIRECTORY, 0o755, 0, 0, 0, 0)
    refs = array("I", [2]) * (1 << 10)
    for number in range(40):
        block.content[block.add(0, b"%02d" % number, entries.FILE, 0o600, 0, 0, 0, 1000 << 10)] = Chunked(1, refs)
    assert agree([(0, len(block), block.encode())], ROOTS[:1])
    for large in ((1 << 63) - 1, (1 << 64) - 1):
        block.size[-1] = large
        assert not agree([(0, len(block), block.encode())], ROOTS[:1])


def test_more_roots_than_named_and_fewer() -> None:
    for roots in ([], ROOTS[:1], ROOTS, [*ROOTS, (b"t", True)], [(b"work", False), ROOTS[1]], [(b"w" * 70_000, True)]):
        expected = roots == ROOTS
        sections = cut(with_file(parsers.block()), 3)
        if len(roots) != 1 or len(roots[0][0]) < 1000:
            assert agree(sections, roots) is expected
        else:
            assert verdict(CompiledCheck(parsers.chunk_list(), roots), sections) == verdict(
                TreeCheck(parsers.chunk_list(), roots), sections
            )


def test_without_kernels_it_is_the_check_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "library", lambda: None)
    sections = cut(with_file(parsers.block()), 3)
    assert verdict(CompiledCheck(parsers.chunk_list(), ROOTS), sections) == ("", (3, 2, 2, 1370))

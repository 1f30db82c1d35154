"""Entry sections of an index (docs/format.md §7): files, directories and links in tree order, as columns."""

from __future__ import annotations

import struct
from array import array
from collections.abc import MutableSequence, Sequence
from itertools import compress

from torpor.errors import Malformed
from torpor.format import columns, contents
from torpor.format.contents import (
    ABSENT,
    BUNDLED,
    CHUNKED,
    DIRECTORY,
    EMPTY,
    FILE,
    HARDLINK,
    SYMLINK,
    Bundled,
    Chunked,
    Content,
    Contents,
)

__all__ = ["ABSENT", "BUNDLED", "CHUNKED", "DIRECTORY", "EMPTY", "FILE", "HARDLINK", "SYMLINK", "Bundled", "Chunked", "Content", "Contents"]

TORN, SPARSE, ATTRIBUTES = 1, 2, 4
CHUNKER_FIXED, CHUNKER_SAFETENSORS = 1, 2

_ATTRIBUTE = struct.Struct("<HI")
_KINDS: dict[type, int] = {Bundled: BUNDLED, Chunked: CHUNKED, type(None): EMPTY, bytes: EMPTY, int: EMPTY}
_CHUNKED = bytes(kind == CHUNKED for kind in range(256))


class EntryBlock:
    """Up to 65,536 entries. `base` is the number of the first in the entry list.

    Row `i` has `parent[i]`, `names[i]`, `type[i]`, `mode[i]`, `uid[i]`, `gid[i]`, `mtime[i]` (ns), `size[i]`, `flags[i]`, and in
    `content[i]` what its type asks for: None; `Bundled` or `Chunked` of a file; the target (bytes) of a symbolic link; the entry
    number (int) a hard link points to. `extents` and `attributes` hold, by row, the data extents of sparse files (flat array:
    offset, length, …) and the encoded attributes. A block that was decoded has `Contents`, which is made row by row when asked and
    can't be changed.
    """

    __slots__ = (
        "attributes", "base", "content", "extents", "flags", "gid", "mode", "mtime", "names", "parent", "size", "type", "uid",
    )  # fmt: skip

    def __init__(self, base: int) -> None:
        self.base = base
        self.parent = array("I")
        self.names: list[bytes] = []
        self.type = array("B")
        self.mode = array("H")
        self.uid = array("I")
        self.gid = array("I")
        self.mtime = array("q")
        self.size = array("Q")
        self.flags = array("B")
        self.content: MutableSequence[Content] = []
        self.extents: dict[int, array[int]] = {}
        self.attributes: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.names)

    def add(self, parent: int, name: bytes, type: int, mode: int, uid: int, gid: int, mtime: int, size: int) -> int:
        """Append a row without content; its row number in this block is returned."""
        self.parent.append(parent)
        self.names.append(name)
        self.type.append(type)
        self.mode.append(mode)
        self.uid.append(uid)
        self.gid.append(gid)
        self.mtime.append(mtime)
        self.size.append(size)
        self.flags.append(0)
        self.content.append(None)
        return len(self.names) - 1

    def add_rows(self, parent: int, names: list[bytes], type: int) -> int:
        """Append rows that share parent and type; the first one's number. `mode`, `uid`, `gid`, `mtime` and `size` are still to be set."""
        first, count = len(self.names), len(names)
        self.parent.extend((parent,) * count)
        self.names += names
        self.type.extend((type,) * count)
        self.flags.frombytes(bytes(count))
        self.content += [None] * count
        return first

    def part(self, first: int, last: int) -> EntryBlock:
        """The rows from `first` to `last` as a block."""
        part = EntryBlock(self.base + first)
        for name in ("parent", "names", "type", "mode", "uid", "gid", "mtime", "size", "flags", "content"):
            setattr(part, name, getattr(self, name)[first:last])
        part.extents = {row - first: found for row, found in self.extents.items() if first <= row < last}
        part.attributes = {row - first: found for row, found in self.attributes.items() if first <= row < last}
        return part

    def bundled(self) -> tuple[array[int], array[int], bytes]:
        """Columns of the bundled files, in order: chunk, offset in it, and ids one behind the other."""
        found = [content for content in self.content if type(content) is Bundled]
        if not found:
            return array("I"), array("I"), b""
        chunk, offset, ids = zip(*found, strict=True)
        return array("I", chunk), array("I", offset), b"".join(ids)

    def encode(self) -> bytes:
        kinds = bytes(map(_KINDS.__getitem__, map(type, self.content)))
        c_count, c_chunker, c_refs = array("I"), array("B"), array("I")
        s_count, s_extents = array("I"), array("Q")
        x_length, x_data = array("I"), bytearray()
        b_chunk, b_offset, b_id = self.bundled()
        for content in compress(self.content, kinds.translate(_CHUNKED)):
            if isinstance(content, Chunked):
                c_count.append(len(content.refs))
                c_chunker.append(content.chunker)
                c_refs += content.refs
        targets = [content for content in self.content if isinstance(content, bytes)]
        links = array("I", [content for content in self.content if isinstance(content, int)])
        for row in sorted(self.extents):
            s_count.append(len(self.extents[row]) // 2)
            s_extents += self.extents[row]
        for row in sorted(self.attributes):
            x_length.append(len(self.attributes[row]))
            x_data += self.attributes[row]
        return columns.pack(
            self.parent, *columns.join(self.names), self.type, self.mode, self.uid, self.gid, self.mtime, self.size,
            self.flags, kinds, b_chunk, b_offset, b_id, c_count, c_chunker, c_refs, s_count, s_extents,
            *columns.join(targets), links, x_length, x_data,
        )  # fmt: skip


def decode(base: int, rows: int, data: bytes) -> EntryBlock:
    """Parse a section. Checks what one section shows alone; `format.tree.TreeCheck` checks order, names and references."""
    reader = columns.Reader(data, "The index's entry list")
    block = EntryBlock(base)
    block.parent = reader.ints("I", rows)
    block.names = reader.strings(rows)
    block.type = reader.ints("B", rows)
    block.mode = reader.ints("H", rows)
    block.uid, block.gid = reader.ints("I", rows), reader.ints("I", rows)
    block.mtime, block.size = reader.ints("q", rows), reader.ints("Q", rows)
    block.flags = reader.ints("B", rows)
    kinds = reader.ints("B", rows).tobytes()
    types = block.type.tobytes()
    bundled = kinds.count(BUNDLED)
    chunked = kinds.count(CHUNKED)
    b_chunk, b_offset = reader.ints("I", bundled), reader.ints("I", bundled)
    reader.blob(bundled * 32)  # ids: read where they lie
    c_count, c_chunker = reader.ints("I", chunked), reader.ints("B", chunked)
    c_refs = reader.ints("I", sum(c_count))
    flags = block.flags.tobytes()
    sparse = _flagged(flags, SPARSE)
    s_count = reader.ints("I", len(sparse))
    s_extents = reader.ints("Q", 2 * sum(s_count))
    targets = reader.strings(types.count(SYMLINK))
    links = reader.ints("I", types.count(HARDLINK))
    marked = _flagged(flags, ATTRIBUTES)
    x_data = reader.cut(reader.ints("I", len(marked)))
    reader.end()

    codes = contents.codes(types, kinds)
    if codes is None:
        raise reader.fail("a file has unknown content" if contents.first_is_file(types, kinds) else "an entry has an impossible type")
    block.content = Contents(codes, b_chunk, b_offset, c_count, c_chunker, c_refs, targets, links, (data, reader.starts))
    at = 0
    for row, count in zip(sparse, s_count, strict=True):
        block.extents[row] = s_extents[at : at + 2 * count]
        at += 2 * count
    block.attributes = dict(zip(marked, x_data, strict=True))
    return block


def decoded(block: EntryBlock) -> Contents:
    """The columns of a block that came from `decode`."""
    if not isinstance(block.content, Contents):
        raise TypeError("the block was not decoded")
    return block.content


def _flagged(flags: bytes, flag: int) -> list[int]:
    return [row for row, found in enumerate(flags) if found & flag] if flags.strip(b"\0") else []


def encode_attributes(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(_ATTRIBUTE.pack(len(name), len(value)) + name + value for name, value in pairs)


def decode_attributes(data: bytes) -> list[tuple[bytes, bytes]]:
    """(name, value) pairs; only `user.*` and POSIX ACLs are let through, as the format says."""
    out: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(data):
        if at + _ATTRIBUTE.size > len(data):
            raise Malformed("An entry's attributes are cut off.")
        name_length, value_length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        name, value = data[at : at + name_length], data[at + name_length : at + name_length + value_length]
        at += name_length + value_length
        allowed = (name.startswith(b"user.") and len(name) > 5) or name in (b"system.posix_acl_access", b"system.posix_acl_default")
        if at > len(data) or not allowed or b"\0" in name:
            raise Malformed("An entry has an impossible attribute.")
        out.append((name, value))
    return out

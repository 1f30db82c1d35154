"""Loads the compiled kernels and calls them; `library()` is None where there are none, and callers do without.

ctypes lets go of the interpreter's lock during each call. Addresses come from objects that the caller keeps alive.
"""

from __future__ import annotations

import ctypes
import os
import struct
from array import array
from collections.abc import Sequence
from functools import cache

ABI = 4  # kernels.h
FILE = "_kernels.so"
WANTED = struct.Struct("=4Q2q2Q")  # addresses, room, margin and a moment, see struct wanted in files.c
MAKE = struct.Struct("=14Qq")  # addresses of columns, see struct make in files.c; seconds
SEEN = struct.Struct("=QQQQQqqIIIi")  # device, inode, size, blocks, links, mtime and ctime in ns, mode, uid, gid, errno
TREE = struct.Struct("=7Q")  # files, directories, links, bytes; open directories, roots seen and bytes of them; behind it `LEVELS` of LEVEL
LEVEL = struct.Struct("=II256s")  # number, length of the last child's name, that name
LEVELS = 4096
FINISH = struct.Struct("=7Q")  # addresses of columns, see struct finish in folders.c; whether owners are set
SECTION = struct.Struct("=10Q24Q")  # see struct section in tree.c
SET_MODE, SET_OWNER = 1 << 31, 1 << 30
SPECIAL = 0xFFFFFFFF  # in place of a mode: not for a kernel

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
_SIGNATURES: dict[str, list[type]] = {
    "torpor_split2": [_pointer, ctypes.c_uint, _pointer, _size],
    "torpor_split4": [_pointer, ctypes.c_uint, _pointer, _size],
    "torpor_merge2": [_pointer, _pointer, _pointer, _size],
    "torpor_merge4": [_pointer, _pointer, _pointer, _pointer, _pointer, _size],
    "torpor_read_small": [ctypes.c_char_p, _size],
    "torpor_make_files": [ctypes.c_char_p, _pointer, _size],
    "torpor_make_folders": [ctypes.c_int, ctypes.c_char_p, _pointer, _size],
    "torpor_finish_folders": [ctypes.c_int, ctypes.c_char_p, _pointer, _size],
    "torpor_stat_many": [ctypes.c_int, ctypes.c_char_p, _pointer, _size],
    "torpor_enter": [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint64, _pointer, _pointer, _pointer, _size, _pointer],
    "torpor_ids_known": [_pointer, ctypes.c_uint64, _pointer, ctypes.c_char_p, _size],
    "torpor_ids_add": [_pointer, ctypes.c_uint64, _pointer, _size, _size],
    "torpor_check_tree": [_pointer, ctypes.c_char_p],
    "torpor_hash_many": [_pointer, _pointer, _pointer, _size, ctypes.c_char_p, _pointer],
}
_RESULTS: dict[str, type] = {
    "torpor_enter": ctypes.c_int,
    "torpor_ids_known": ctypes.c_size_t,
    "torpor_check_tree": ctypes.c_int,
    "torpor_hash_many": ctypes.c_int,
    "torpor_make_folders": _size,
    "torpor_stat_many": _size,
    "torpor_read_small": ctypes.c_uint64,
}


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None if they were not built, were built for another machine, or belong to another version of torpor."""
    try:
        found = ctypes.CDLL(os.path.join(os.path.dirname(__file__), FILE))
        found.torpor_abi.restype = ctypes.c_uint
        if found.torpor_abi() != ABI:
            return None
        for name, arguments in _SIGNATURES.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, _RESULTS.get(name)
    except (OSError, AttributeError):
        return None
    return found


def split(lib: ctypes.CDLL, elements: int, width: int, plane: int, into: int, count: int) -> None:
    """Byte `plane` of each of `count` elements of 2 or 4 bytes, rotated left by one bit. `elements`, `into`: addresses."""
    (lib.torpor_split2 if width == 2 else lib.torpor_split4)(elements, plane, into, count)


def merge(lib: ctypes.CDLL, planes: list[int], into: int, count: int) -> None:
    """The inverse, for all 2 or 4 planes at once. `planes`, `into`: addresses."""
    (lib.torpor_merge2 if len(planes) == 2 else lib.torpor_merge4)(*planes, into, count)


def address(buffer: memoryview | bytearray) -> int:
    """Where a writable buffer begins in memory; it must not be empty."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def constant(data: bytes) -> int:
    """Where bytes begin in memory, to be read alone."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def read_small(
    lib: ctypes.CDLL, paths: bytes, seen: bytearray, buffer: memoryview, margin: int, since: int
) -> tuple[bytearray, array[int], int]:
    """Read files into a buffer, one behind the other; for each what came of it, and where its bytes begin; and how much is used.

    What: 1 if it is as the walk saw it, has no holes and no extended attributes; 2 if moreover every change from now on will show in its
    times, which is so if they are `margin` ns away from now, and the ctime from `since` too; 0: nothing is known of it. `paths`: each ends
    with a zero byte. `seen`: a record `SEEN` for each.
    """
    count = len(seen) // SEEN.size
    done, offsets = bytearray(count), array("I", bytes(4 * count))
    record = WANTED.pack(
        constant(paths), address(seen), address(buffer), len(buffer), margin, since, offsets.buffer_info()[0], address(done)
    )  # fmt: skip
    used: int = lib.torpor_read_small(record, count)
    return done, offsets, used


def make_files(
    lib: ctypes.CDLL, names: bytes, data: int, columns: Sequence[array[int]], stats: Sequence[array[int] | bytearray], margin: int
) -> bytearray:
    """Make new files; 1 for each that is whole, else 0: there is nothing of it.

    `names`: each ends with a zero byte; `data`: address. `columns`, an item a file: offset in the data (I), size (I), mtime (q), mode
    (I), directory handle (i), entry number (I), uid and gid (I; empty if no mode has `SET_OWNER`). `stats`, by entry number, filled
    for files that are whole: device (Q), inode (Q), ctime (q), and 1 (a bytearray) if the mtime is less than `margin` seconds away
    from now.
    """
    count = len(columns[0])
    done = bytearray(count)
    into = [address(column) if isinstance(column, bytearray) else column.buffer_info()[0] for column in stats]
    record = MAKE.pack(constant(names), data, *(column.buffer_info()[0] for column in columns), *into, margin)
    lib.torpor_make_files(record, address(done), count)
    return done


def make_folders(lib: ctypes.CDLL, root: int, names: bytes, parents: array[int]) -> int:
    """Make directories below an open one, 0700; how many, in order, until one could not be made.

    `names`: each ends with a zero byte; `parents` (i): by number, from 0, in tree order; -1 is `root`.
    """
    return int(lib.torpor_make_folders(root, names, parents.buffer_info()[0], len(parents)))


def finish_folders(lib: ctypes.CDLL, root: int, names: bytes, columns: Sequence[array[int]], change: bool) -> bytearray:
    """Give directories below an open one permissions, owners and times; 1 for each that has them, and so has all below it.

    `columns`, an item a directory: parent (i, see `make_folders`), mode (I, or `SPECIAL`), uid (I), gid (I), mtime (q). `change`:
    owners are set if they are others; without it such a directory is left.
    """
    done = bytearray(len(columns[0]))
    record = FINISH.pack(constant(names), *(column.buffer_info()[0] for column in columns), change)
    lib.torpor_finish_folders(root, record, address(done) if done else None, len(done))
    return done


def stat_many(lib: ctypes.CDLL, folder: int, names: list[bytes]) -> tuple[bytearray, bool]:
    """A record `SEEN` for each entry of an open directory, links not followed; and whether all are regular files of one name."""
    seen = bytearray(SEEN.size * len(names))
    plain = lib.torpor_stat_many(folder, b"\0".join(names) + b"\0", address(seen), len(names))
    return seen, plain == len(names)


def ids_known(lib: ctypes.CDLL, slots: array[int], ids: bytearray, wanted: bytes) -> int:
    """How many of the `wanted` ids, 32 bytes each, a table holds. `slots`: a power of two of them; `ids`: of its rows, not empty."""
    count: int = lib.torpor_ids_known(slots.buffer_info()[0], len(slots) - 1, address(ids), wanted, len(wanted) // 32)
    return count


def ids_add(lib: ctypes.CDLL, slots: array[int], ids: bytearray, first: int, end: int) -> None:
    """Give slots to the rows from `first` to `end`; fewer rows than half the slots."""
    lib.torpor_ids_add(slots.buffer_info()[0], len(slots) - 1, address(ids), first, end)


def hash_many(lib: ctypes.CDLL, data: memoryview, offsets: array[int], lengths: array[int], key: bytes) -> list[bytes] | None:
    """Keyed BLAKE3 of pieces of writable `data`, all of which must lie in it (both columns `I`, not empty); `key`: 32 bytes. None where
    this processor has no kernel for it."""
    count = len(offsets)
    ids = bytearray(32 * count)
    done = lib.torpor_hash_many(address(data), offsets.buffer_info()[0], lengths.buffer_info()[0], count, key, address(ids))
    found = bytes(ids)
    return [found[at : at + 32] for at in range(0, 32 * count, 32)] if done else None


class Door:
    """Enters directories, one at a time: what the last `enter` found is kept here."""

    def __init__(self, lib: ctypes.CDLL, device: int, room: int = 32 * 1024) -> None:
        """`device`: only what lies on it is listed. `room`: bytes of a listing."""
        self._enter = lib.torpor_enter
        self._device = device
        self._own, self._names, self._size = bytearray(SEEN.size), bytearray(room), room
        self._plain, self._listed = ctypes.c_uint8(), ctypes.c_int64()
        self._own_at, self._names_at = address(self._own), address(self._names)

    def enter(self, above: int, name: bytes) -> int:
        """Open the directory `name` in the open directory `above`: its descriptor, or -1 if it can't be opened."""
        fd: int = self._enter(
            above, name, self._device, self._own_at, ctypes.addressof(self._plain), self._names_at, self._size,
            ctypes.addressof(self._listed),
        )  # fmt: skip
        return fd

    @property
    def status(self) -> tuple[int, ...]:
        """The values of `SEEN`."""
        return SEEN.unpack(self._own)

    @property
    def plain(self) -> bool:
        """Whether it has no extended attributes."""
        return bool(self._plain.value)

    @property
    def names(self) -> list[bytes] | None:
        """What is in it, in the order of the names' bytes, each behind `d` (a directory) or `f`; None: not known."""
        if self._listed.value < 0:
            return None
        names = bytes(memoryview(self._names)[: self._listed.value]).split(b"\0")
        names.pop()  # behind the last zero byte
        return names


def check_tree(lib: ctypes.CDLL, tree: bytearray, section: bytes) -> bool:
    """Whether every row of an entry section is fine; if not, `tree` is worth nothing afterwards. `section`: a record `SECTION`."""
    return bool(lib.torpor_check_tree(address(tree), section))

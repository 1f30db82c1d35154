"""Trees with everything that is hard to save: each part is a folder of its own, so that a test can name what it breaks on."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Sequence

from torpor.testing.samples import noise, text, weights

MIB = 1 << 20
GIB = 1 << 30
SECOND = 1_000_000_000
OLD = 1_600_000_000 * SECOND  # an mtime well in the past, so that only what a part is about is special


def write(path: bytes, data: bytes, mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def _empty(at: bytes) -> None:
    os.makedirs(at + b"/folder/in/folder")
    os.mkdir(at + b"/folder/beside")
    for name in (b"file", b"folder/file"):
        write(at + b"/" + name, b"")


def _links(at: bytes) -> None:
    os.mkdir(at + b"/folder")
    write(at + b"/folder/file", b"what links lead to")
    long = b"../" * 1364 + b"nil"  # 4,095 bytes, the most there can be
    for name, target in {
        b"to-file": b"folder/file", b"to-folder": b"folder", b"dangling": b"not/there", b"absolute": b"/etc/hostname",
        b"upward": b"../../..", b"loop": b"loop", b"self": b".", b"long": long, b"bytes": b"\xff\xfe/\n",
    }.items():  # fmt: skip
        os.symlink(target, at + b"/" + name)


def _hardlinks(at: bytes) -> None:
    """Groups over several folders; some first names come before, others behind their folder's."""
    for folder in (b"a", b"b/deep", b"c"):
        os.makedirs(at + b"/" + folder)
    for name, data in {b"small": b"bytes of three names", b"large": noise(3 * MIB, 5), b"empty": b""}.items():
        write(at + b"/b/" + name, data)
        for other in (b"a/", b"b/deep/", b"c/other-"):
            os.link(at + b"/b/" + name, at + b"/" + other + name)
    write(at + b"/same-bytes", b"bytes of three names")  # and yet a file of its own


def sparse(path: bytes, size: int, *data: tuple[int, bytes]) -> None:
    """A file of `size` bytes that holds these bytes at these offsets, and holes elsewhere."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.ftruncate(fd, size)
        for offset, piece in data:
            os.pwrite(fd, piece, offset)
    finally:
        os.close(fd)


def _holes(at: bytes) -> None:
    piece = noise(256 * 1024, 6)
    for name, size, data in [
        (b"leading", 6 * MIB, [(5 * MIB, piece * 4)]),
        (b"trailing", 6 * MIB, [(0, piece)]),
        (b"middle", 9 * MIB, [(0, piece), (9 * MIB - len(piece), piece)]),
        (b"ragged", 12 * MIB + 77, [(3 * MIB - 5, piece), (8 * MIB + 1, b"x"), (12 * MIB, b"y" * 77)]),
        (b"all", 3 * MIB, []),
        (b"all-odd", 5 * MIB + 1, []),
        (b"zeros-written", 2 * MIB, [(0, bytes(2 * MIB))]),
        (b"small", 300_000, [(100_000, b"small and sparse")]),
        (b"small-all", 65_536, []),
        (b"huge", 8 * GIB, [(0, piece), (GIB - 100, piece), (5 * GIB + 12_345, piece * 8), (8 * GIB - 1, b"!")]),
    ]:
        sparse(at + b"/" + name, size, *data)


def acl(*, user: int, default: bool = False) -> tuple[str, bytes]:
    """Name and value of an ACL that lets one more user read."""
    rows = [(0x01, 7, 0xFFFFFFFF), (0x02, 4, user), (0x04, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
    return f"system.posix_acl_{'default' if default else 'access'}", value


def _attributes(at: bytes) -> None:
    os.mkdir(at + b"/folder")
    for name, size in ((b"small", 10), (b"large", 2 * MIB), (b"empty", 0), (b"folder/inside", 10)):
        write(at + b"/" + name, noise(max(1, size), 7)[:size], 0o640)
        os.setxattr(at + b"/" + name, "user.empty", b"")
        os.setxattr(at + b"/" + name, "user.bytes", bytes(range(256)) * 4)
        os.setxattr(at + b"/" + name, b"user." + b"n" * 200, b"long name")
        os.setxattr(at + b"/" + name, b"user.\xff\n", b"odd name")
    os.setxattr(at + b"/folder", "user.on-a-folder", b"\0value\0")


def _acls(at: bytes) -> None:
    os.mkdir(at + b"/folder", 0o750)
    for name, size in ((b"small", 10), (b"large", 2 * MIB)):
        write(at + b"/" + name, noise(size, 7), 0o640)
        os.setxattr(at + b"/" + name, *acl(user=1234))
    os.setxattr(at + b"/folder", *acl(user=1234))
    write(at + b"/folder/made-before-the-default", b"has no ACL", 0o600)
    os.setxattr(at + b"/folder", *acl(user=5678, default=True))
    os.mkdir(at + b"/folder/inherits")
    write(at + b"/folder/inherits/file", b"inherits too", 0o640)


NAMES = (
    b"caf\xc3\xa9", b"latin-\xe9", b"\xff\xfe\xfd", b"line\nbreak", b"\n", b"-rf", b"--", b" ", b"  spaced  out ", b"back\\slash", b"tab\t",
    "emoji-\U0001f9ca".encode(), b"\xe2\x80\xae", b"'quoted' \"twice\"", b"$(echo)", b"`x`", b"*?[a]", b"...", b"..x", b".hidden",
    b"\x01\x7f", b"~", b"CON", b"a:b", b"n" * 255, b"\xf0\x9f\xa7\x8a" * 63, b"%2F", b"Case", b"case", b"cafe\xcc\x81", b"{name}",
)  # fmt: skip


def _names(at: bytes) -> None:
    for name in NAMES:
        os.mkdir(at + b"/" + name)
        write(at + b"/" + name + b"/" + name, name)
        os.symlink(name, at + b"/" + name + b"/link")


def deep(at: bytes, names: Sequence[bytes], data: bytes = b"at the bottom") -> None:
    """Folders in folders, by handles, so that the path may be longer than the system takes; a file at the bottom."""
    fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.open(b"bottom", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
        os.write(file, data)
        os.utime(file, ns=(OLD, OLD))
        os.close(file)
        os.symlink(b"bottom", b"link", dir_fd=fd)
    finally:
        os.close(fd)


def _paths(at: bytes) -> None:
    deep(at, [b"d" * 200 + b"%d" % number for number in range(6)])  # 1,200 characters
    os.mkdir(at + b"/many")
    deep(at + b"/many", [b"%d" % number for number in range(300)])


def _modes(at: bytes) -> None:
    """What its owner may not enter or read, unless that is root, and bits that give rights away."""
    for mode in (0o000, 0o400, 0o200, 0o777, 0o1644, 0o2755, 0o4755, 0o6711):
        for kind, size in ((b"file", 11), (b"large", MIB), (b"empty", 0)):
            write(at + b"/%s-%04o" % (kind, mode), noise(MIB, 9)[:size], mode)
            os.utime(at + b"/%s-%04o" % (kind, mode), ns=(OLD, OLD + mode))
        folder = at + b"/folder-%04o" % mode
        os.mkdir(folder)
        write(folder + b"/file", b"in it")
        os.utime(folder + b"/file", ns=(OLD, OLD - mode))
        os.utime(folder, ns=(OLD, OLD + mode))
        os.chmod(folder, mode)


def _owners(at: bytes) -> None:
    """As root: owners that have no name here. As anybody else: one's own."""
    os.mkdir(at + b"/folder")
    for name, size in ((b"small", 10), (b"large", 2 * MIB), (b"empty", 0), (b"folder/inside", 10)):
        write(at + b"/" + name, noise(max(1, size), 8)[:size], 0o640)
    os.symlink(b"small", at + b"/link")
    if os.geteuid() == 0:
        for number, name in enumerate((b"small", b"large", b"empty", b"folder/inside", b"folder", b"link")):
            os.chown(at + b"/" + name, 4_000_000_000 + number, 70_000 + number, follow_symlinks=False)


TIMES = (0, -1, -SECOND, -1_500_000_000 * SECOND - 1, 1, 999_999_999, OLD + 123_456_789, (1 << 31) * SECOND, 9_000_000_000 * SECOND + 7)


def _times(at: bytes) -> None:
    for number, ns in enumerate(TIMES):
        write(at + b"/file-%d" % number, b"of another time")
        write(at + b"/large-%d" % number, noise(MIB + number, 10))
        os.symlink(b"nowhere", at + b"/link-%d" % number)
        os.mkdir(at + b"/folder-%d" % number)
        for kind in (b"file", b"large", b"link", b"folder"):
            os.utime(at + b"/%s-%d" % (kind, number), ns=(OLD, ns), follow_symlinks=False)


SIZES = (0, 1, 4096, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB)


def _sizes(at: bytes) -> None:
    for size in SIZES:
        write(at + b"/random-%d" % size, noise(9 * MIB, 11)[:size])
        write(at + b"/text-%d.py" % size, text(9 * MIB, 12)[:size])
        write(at + b"/zeros-%d" % size, bytes(size))


def safetensors(header: bytes, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def _arrays(at: bytes) -> None:
    """Headers that tell types of elements: true, false, malformed, longer than the file."""
    body = weights("bf16", 5 * MIB)
    header = json.dumps({"w": {"dtype": "BF16", "shape": [len(body) // 2], "data_offsets": [0, len(body)]}}).encode()
    lies = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 60]}}).encode()
    for name, data in {
        b"valid": safetensors(header, body), b"odd-header": safetensors(header + b" " * 3, body),
        b"long-header": safetensors(header + b" " * (4 * MIB + 11), body), b"malformed": safetensors(b"{" + noise(500), body),
        b"not-json": safetensors(noise(500), body), b"too-long": safetensors(header, body, 1 << 40),
        b"one-too-long": safetensors(header, b"", len(header) + 1), b"lies": safetensors(lies, body),
        b"only-header": safetensors(header, b""), b"tiny": b"\x02\0\0\0\0\0\0\0{}",
    }.items():  # fmt: skip
        write(at + b"/" + name + b".safetensors", data)
    floats = weights("fp32", 2 * MIB)
    described = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % (len(floats) // 4)
    described += b" " * (117 - len(described)) + b"\n"
    write(at + b"/array.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(described)) + described + floats)
    write(at + b"/false.npy", b"\x93NUMPY\x01\x00\xff\xff" + floats[:-3])
    write(at + b"/headless.pt", b"PK\x03\x04" + weights("fp16", 3 * MIB) + floats)


PARTS: dict[str, Callable[[bytes], None]] = {
    "empty": _empty, "links": _links, "hardlinks": _hardlinks, "holes": _holes, "attributes": _attributes, "acls": _acls,
    "names": _names, "paths": _paths, "modes": _modes, "owners": _owners, "times": _times, "sizes": _sizes, "arrays": _arrays,
}  # fmt: skip


def make(root: str | bytes | os.PathLike[str], parts: Sequence[str] = tuple(PARTS)) -> None:
    """Make these parts below `root`, each in a folder of its name. All mtimes end up in the past, those of `times` as they are."""
    top = os.fsencode(root)
    umask = os.umask(0o022)
    try:
        for part in parts:
            at = top + b"/" + part.encode()
            os.makedirs(at)
            PARTS[part](at)
    finally:
        os.umask(umask)
    age(top, [top + b"/times/", top + b"/modes/"])


def age(top: bytes, but: Sequence[bytes] = ()) -> None:
    """Give everything below `top` an mtime of its own well in the past, except below these paths (with a slash at the end)."""
    number = 0
    for folder, folders, files in os.walk(top, topdown=False):
        for name in sorted(folders) + sorted(files):
            path = folder + b"/" + name
            if not path.startswith(tuple(but)):
                number += 1
                os.utime(path, ns=(OLD, OLD + number * 1_234_567_891), follow_symlinks=False)
    os.utime(top, ns=(OLD, OLD))


def special(at: str | bytes | os.PathLike[str]) -> list[bytes]:
    """A fifo and a socket, which no snapshot holds; their paths."""
    top = os.fsencode(at)
    os.mkfifo(top + b"/fifo", 0o600)
    os.mknod(top + b"/socket", 0o600 | stat.S_IFSOCK)
    return [top + b"/fifo", top + b"/socket"]

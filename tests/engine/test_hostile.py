"""What a hostile host, or whoever stole a key, can put into the store: never committed, never restored, nothing written elsewhere."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import lz4.block
import pytest
from backports import zstd

from tests.engine.stranger import Change, Stranger, bomb, head_field, roots, with_frame
from tests.properties.test_parsers_memory import peak
from tests.unit.byhand import LZ4, PLANES, RAW, SNAPSHOT, ZSTD, Pack, Snapshot, build
from tests.unit.byhand_hostile import HOSTILE_ENTRIES, entry, row
from torpor.control import receipts, restores
from torpor.errors import Damaged, HostFailed, Malformed, NoSpace, UsageError
from torpor.events import ignore
from torpor.format import meta

MIB = 1 << 20


def parents_of_each_other(snap: Snapshot) -> None:
    entry(4, kind=0, size=0, refs=None, parent=3)(snap)
    entry(3, parent=4)(snap)


def twice(snap: Snapshot) -> None:
    snap.packs.append(snap.packs[0])


def foreign(snap: Snapshot) -> None:
    """A pack of a writer that the keyring does not have."""
    pack = Pack(snap.repo, "20260101T000000000-deadbeef/deadbeef-0", os.urandom(32), 3)
    snap.packs.append(pack)
    snap.chunk(3, b"stolen", RAW, b"stolen")


def over_another(snap: Snapshot) -> None:
    """Chunk 3 where chunk 4 lies, with its length: every other field stays."""
    snap.bend_rows = lambda rows: rows[3].__setitem__(slice(2, 4), rows[4][2:4])


def past_the_end(snap: Snapshot) -> None:
    snap.bend_rows = lambda rows: rows[3].__setitem__(2, 64 + MIB)


def hole_bomb(snap: Snapshot) -> None:
    entry(11, size=1 << 63, refs=[6])(snap)


def files_of_holes(snap: Snapshot) -> None:
    snap.bend_rows = lambda rows: rows[5].__setitem__(4, 1 << 30)
    refs = [5] * (1 << 21)
    for number in (4, 11):
        entry(number, size=len(refs) << 30, refs=refs)(snap)
    for number in (5, 12):
        entry(number, flags=0, size=1 << 30, refs=[5])(snap)


HOSTILE: dict[str, Change] = {
    **HOSTILE_ENTRIES,
    "a file of 2^63 bytes in one small chunk": hole_bomb,
    "a file of 2^64-1 bytes": entry(11, size=(1 << 64) - 1),
    "a file of 2^62 bytes in one small chunk": entry(11, size=1 << 62),
    "an absolute name": entry(1, name=b"/etc/passwd"),
    "its own parent": entry(3, parent=3),
    "two that are each other's parents": parents_of_each_other,
    "a character device": entry(7, kind=6),
    "a type of 255": entry(7, kind=255),
    "a link's target of 65,535 bytes": entry(10, target=b"a" * 65_535),
    "security.ima": entry(1, attributes=[(b"security.ima", b"x")]),
    "trusted.overlay": entry(1, attributes=[(b"trusted.overlay.opaque", b"y")]),
    "an attribute without a name": entry(1, attributes=[(b"user.", b"")]),
    "flags of later versions": entry(1, flags=8),
    "a pack twice": twice,
    "a pack of another lineage": foreign,
    "a chunk over another": over_another,
    "a chunk past the end of its pack": past_the_end,
    "a codec nobody knows": row(3, 5, 200),
    "the codec that is never used": row(3, 5, 255),
    "a root that leads out": roots(b"/srv/../../../out", b"/etc/alone"),
    "a file root that leads out": roots(b"/srv/desk", b"/../../out/alone"),
    "a relative root": roots(b"../out", b"/etc/alone"),
    "a root of no kind": roots(b"/srv/desk", b"/etc/alone", kinds=("directory", "socket")),
    "a meta section that is a list": with_frame(1, zstd.compress(b"[]"), raw=2),
    "a meta section of deep brackets": with_frame(1, zstd.compress(b'{"x":' + b"[" * 100_000), raw=100_005),
    "problems without number": with_frame(4, zstd.compress(b"[" + b"0," * 50_000 + b"0]"), raw=100_003),
    "a problem of no kind": with_frame(4, zstd.compress(b'[{"path":"","kind":"x"}]'), raw=24),
    "problems, one more than rows": with_frame(4, zstd.compress(b"[]"), raw=2),
    "a meta section that is a bomb": with_frame(1, bomb(64 * MIB)),
    "a chunk section that is a bomb": with_frame(2, bomb(64 * MIB)),
    "an entry section that is a bomb": with_frame(3, bomb(64 * MIB)),
    "a whole section of zeros": with_frame(3, bomb(64 * MIB), raw=64 * MIB),
    "a section of 65,536 zero rows": with_frame(2, bomb(53 * 65_536 + 28), raw=53 * 65_536 + 28, rows=65_536),
    "a section that is no frame": with_frame(3, b"\x28\xb5\x2f\xfd" + bytes(30)),
    "a section of two frames": with_frame(2, zstd.compress(b"x") + zstd.compress(b"y"), raw=1),
    "10^9 rows": head_field(32 + 4, "<I", 10**9),
    "10^9 sections": head_field(16, "<I", 10**9),
    "10^9 packs": head_field(20, "<I", 10**9),
    "names of 4 GiB": head_field(24, "<I", 0xFFFFFFFF),
    "a head of 1 GiB": head_field(12, "<I", 1 << 30),
    "a section of 4 GiB": head_field(32 + 8, "<I", 0xFFFFFFFF),
    "a raw section of 4 GiB": head_field(32 + 12, "<I", 0xFFFFFFFF),
    "a section far away": head_field(32 + 16, "<Q", (1 << 64) - 1),
    "version 2": head_field(8, "<H", 2),
    "version 0": head_field(8, "<H", 0),
}


def test_the_sample_itself_is_committed_and_restored(tmp_path: Path) -> None:
    there = Stranger.make(tmp_path)
    before = there.outside()
    made = there.commit()
    assert made.manifest.files == 10
    assert receipts.verify(there.repository, SNAPSHOT, "full", ignore).damage == {}
    there.restore()
    for path, data in there.snap.contents.items():
        parent = b"etc" if path == b"alone" else b"srv"
        with open(os.path.join(os.fsencode(there.target), parent, path), "rb") as file:
            assert file.read() == data, path
    assert there.outside() == before


@pytest.mark.parametrize("what", HOSTILE)
def test_commit_refuses(what: str, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, HOSTILE[what])
    with pytest.raises((Malformed, Damaged)):
        there.commit()
    assert not there.committed()
    assert there.repository.store.head(f"claims/{SNAPSHOT}.json") is not None  # so that nothing is pruned below a host at work


@pytest.mark.parametrize("what", [name for name in HOSTILE if "problem" not in name])  # a restore does not read those
def test_restore_refuses_though_it_is_signed(what: str, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, HOSTILE[what])
    before = there.outside()
    with pytest.raises((Malformed, Damaged)):
        there.restore()
    assert there.written() == []
    assert there.outside() == before


@pytest.mark.parametrize("what", [name for name in HOSTILE if "10^9" in name or "GiB" in name or "bomb" in name or "zero" in name])
def test_refusing_takes_little_memory(what: str, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, HOSTILE[what])
    most = (160 if "whole section" in what else 20) * MIB  # a section of 64 MiB, the most there can be, is gathered from pieces
    assert peak(there.restore) < most
    assert peak(there.commit) < most


def test_files_larger_than_a_file_system(tmp_path: Path) -> None:
    """2⁵¹ bytes of holes a file: the format allows them; where the file system does not, that is said as an error of torpor."""
    there = Stranger.make(tmp_path, files_of_holes)
    assert there.commit().manifest.raw_bytes > 1 << 52
    with suppress(HostFailed):
        there.restore()
    assert sum(path.lstat().st_blocks for path in there.target.rglob("*")) * 512 < 8 * MIB


def test_a_file_of_holes_takes_no_room(tmp_path: Path) -> None:
    """A terabyte of holes is a file like any other."""

    def change(snap: Snapshot) -> None:
        snap.bend_rows = lambda rows: rows[5].__setitem__(4, 1 << 30)
        for number, count in ((11, 1024), (5, 1), (12, 1)):
            entry(number, flags=0, size=count << 30, refs=[5] * count)(snap)

    there = Stranger.make(tmp_path, change)
    there.commit()
    there.restore()
    status = (there.target / "srv/desk/old").stat()
    assert (status.st_size, status.st_blocks) == (1 << 40, 0)


def test_one_chunk_named_a_million_times_does_not_fit(tmp_path: Path) -> None:
    """What can't be written is refused before a file is made, and before memory is taken for its pieces."""

    def change(snap: Snapshot) -> None:
        status = os.statvfs(tmp_path)
        count = min(16_000_000, status.f_bavail * status.f_frsize // 70_000 + 1000)
        entry(11, size=70_000 * count, refs=[3] * count)(snap)

    there = Stranger.make(tmp_path, change)
    before = there.outside()
    with pytest.raises(NoSpace):
        there.restore()
    assert there.written() == []
    assert there.outside() == before


# Packs that do not hold what their index says. A commit can't see that; reading back does, and so nothing is destroyed on them.


def chunk(number: int, codec: int, coded: bytes, length: int | None = None) -> Change:
    """Other coded bytes in a chunk of the first pack, sealed and in the table as if they were the ones."""

    def change(snap: Snapshot) -> None:
        _, _, raw, id = snap.packs[0].chunks[number]
        snap.packs[0].chunks[number] = (codec, coded, length or raw, id)

    return change


def planes_bomb(snap: Snapshot) -> None:
    """Chunk 1 of the pack: 560,005 bytes of 4-byte elements; the frame of a plane holds 64 MiB."""
    _, coded, raw, id = snap.packs[0].chunks[1]
    head = bytearray(coded[: 16 + 4])
    frame = bomb(64 * MIB)
    elements = struct.unpack_from("<I", head, 4)[0]
    size = 4_194_304
    struct.pack_into("<I", head, 8, size)
    head[16:20] = bytes([0, 0, 0, 1])
    out = bytes(head) + struct.pack("<I", len(frame)) + bytes(5)
    for block in (bytes(elements), bytes(elements), bytes(elements), frame):
        out += bytes(-len(out) % 16) + block
    snap.packs[0].chunks[1] = (PLANES, out, raw, id)


CONTENT: dict[str, Change] = {
    "other bytes": chunk(2, RAW, b"y" * 70_000),
    "a zstd bomb": chunk(2, ZSTD, bomb(64 * MIB)),
    "a zstd bomb of one byte more": chunk(2, ZSTD, zstd.compress(bytes(70_001))),
    "an lz4 bomb": chunk(2, LZ4, lz4.block.compress(bytes(32 * MIB), store_size=False)),
    "a planes bomb": planes_bomb,
    "planes that are noise": chunk(2, PLANES, os.urandom(500)),
    "no frame at all": chunk(2, ZSTD, os.urandom(500)),
    "raw bytes, too few": chunk(2, RAW, b"y" * 100),
}


@pytest.mark.parametrize("what", CONTENT)
def test_false_content_is_found_by_reading_back(what: str, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, CONTENT[what])
    there.commit()
    found = receipts.verify(there.repository, SNAPSHOT, "full", ignore)
    assert list(found.damage) == [f"packs/{there.snap.packs[0].name}"]
    assert found.receipt is None
    assert peak(lambda: receipts.verify(there.repository, SNAPSHOT, "full", ignore)) < 60 * MIB


@pytest.mark.parametrize("what", CONTENT)
def test_false_content_is_never_restored(what: str, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, CONTENT[what])
    before = there.outside()
    with pytest.raises((Malformed, Damaged)):
        there.restore()
    assert there.outside() == before
    hurt = {"srv/desk/dir/four", "srv/desk/dir/mixed"}
    for name in hurt & set(there.written()):
        # A large file is filled in place; what is there of it is zeros or its own, never the false bytes.
        assert b"yyyy" not in (there.target / name).read_bytes()
    assert (there.target / "srv/desk/.torpor-restore").exists()


# Targets.


def test_roots_in_one_place_are_refused(tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, roots(b"/same", b"/same"))
    with pytest.raises(UsageError, match="one place"):
        there.restore()
    assert there.written() == []


def test_roots_within_each_other_are_never_replaced(tmp_path: Path) -> None:
    """With --replace each removes what is not its own: a link of the one could stand where the other writes."""
    there = Stranger.make(tmp_path, roots(b"/srv", b"/srv/link/alone"))
    there.target.mkdir()
    with pytest.raises(UsageError, match="one place"):
        there.restore(mode="replace")
    assert there.written() == []


def test_paths_of_roots_are_planned_below_the_target() -> None:
    for path in (b"/a", b"/a/b", b"//a", b"/"):
        made = [meta.Root(b"x", path), meta.Root(b"y", b"/other")]
        for target in restores.plan_targets(made, b"/target", {}):
            assert os.path.normpath(target.path).startswith(b"/target")


def test_two_hands_write_the_same(tmp_path: Path) -> None:
    """The sample of an unencrypted repository goes the same way."""
    build(tmp_path / "x", "none")
    there = Stranger.make(tmp_path / "y", encryption="none")
    there.commit()
    assert there.restore().files == 10

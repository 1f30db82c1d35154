"""tools/unfreeze.py against damage, forgery and hostile hosts: snapshots made by hand from docs/format.md, and then bent."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.byhand import NONE, OLD, SNAPSHOT, Snapshot, build
from tests.unit.byhand_hostile import HOSTILE_ENTRIES, row
from tools import unfreeze

MANIFEST = f"(last read: snapshots/{SNAPSHOT}.json)"
INDEX = f"(last read: packs/{SNAPSHOT}/index-0a0b0c0d)"
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the tool on tmp_path/repo with the recovery key of `snap`."""

    def run(snap: Snapshot, command: str, *arguments: str) -> int:
        monkeypatch.setenv("TORPOR_RECOVERY_KEY", snap.repo.recovery_key())
        return unfreeze.main([command, str(tmp_path / "repo"), *arguments])

    return run


def test_a_forged_manifest(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    path = tmp_path / f"repo/snapshots/{SNAPSHOT}.json"
    good = path.read_bytes()
    sound, snap.repo.sign = snap.repo.sign, Ed25519PrivateKey.generate()
    path.write_bytes(snap.repo.signed("torpor manifest v1", snap.manifest))
    for command in ("list", "show", "check"):
        assert run(snap, command, "latest") == 1
        assert capsys.readouterr().err == f"unfreeze: error: forged or damaged: a seal does not fit {MANIFEST}\n"
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    snap.repo.sign = sound
    for context, changes, reason in (
        ("torpor receipt v1", {}, "forged or damaged"),
        ("torpor manifest v1", {"snapshot": OLD}, "another snapshot"),
        ("torpor manifest v1", {"format": 2}, "format version 2"),
        ("torpor manifest v1", {"keyring": dict([*snap.manifest["keyring"].items()][1:])}, "not in the keyring"),
        ("torpor manifest v1", {"index": {**snap.manifest["index"], "name": "../index-00000000"}}, "impossible name"),
        ("torpor manifest v1", {"index": {**snap.manifest["index"], "name": f"{OLD}/index-00000000"}}, "impossible name"),
        ("torpor manifest v1", {"index": None}, "NoneType"),
        ("torpor manifest v1", {"private": "{}"}, "forged or damaged"),
    ):
        path.write_bytes(snap.repo.signed(context, {**snap.manifest, **changes}))
        assert run(snap, "check", "latest") == (1 if "private" not in changes else 0), reason
        assert reason in capsys.readouterr().err or "private" in changes
    path.write_bytes(good.replace(snap.repo.key.encode(), b"0" * 16))
    assert run(snap, "check", "latest") == 1
    assert f"signed by key {'0' * 16}, which is none of {snap.repo.key}" in capsys.readouterr().err
    path.rename(path.with_name(f"{OLD}.json")).write_bytes(good)
    assert run(snap, "check", OLD) == 1
    assert "another snapshot" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["whole", "head"])
def test_a_swapped_index(part: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Another sound index of the same writer, in the place of the one that the manifest names; or another head."""
    snap = build(tmp_path / "repo")
    path = tmp_path / f"repo/packs/{SNAPSHOT}/index-0a0b0c0d"
    before = path.read_bytes()
    if part == "whole":
        snap.entries[7].mtime += 1
    else:
        snap.manifest_changes = {"index": {**snap.manifest["index"], "head_sha256": "0" * 64}}
    snap.write()
    path.write_bytes(before)
    if part == "head":
        snap.manifest_changes["index"]["sha256"] = snap.manifest["index"]["sha256"]
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert f"that the manifest names (SHA-256) {INDEX}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_every_flipped_byte_is_found(encryption: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo", encryption)
    for path in sorted(p for p in (tmp_path / "repo").rglob("*") if p.is_file()):
        data = path.read_bytes()
        size, code = len(data), 3 if path.name == "config.json" else 1
        places = (0, 9, 12, 15, 19, 30, 40, 70, size // 2, size * 3 // 4, size - 200, size - 17, size - 1)
        for place in (p for p in places if 0 <= p < size):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert run(snap, "check", "latest") == code, (path, place)
            assert capsys.readouterr().err.count("unfreeze: error: ") == (code == 1)
        path.write_bytes(data[:-1])
        assert run(snap, "check", "latest") == code, path
        capsys.readouterr()
        path.write_bytes(data)
    assert run(snap, "check", "latest") == 0


def test_damage_while_extracting(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """What came before is whole, and nothing comes after; the file that it stopped in is short."""
    snap = build(tmp_path / "repo")
    (tmp_path / f"repo/packs/{OLD}/aaaaaaaa-12").unlink()
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "No such file or directory" in lines[0]
    assert lines[0].endswith(f"(last read: packs/{OLD}/aaaaaaaa-12)")
    assert (tmp_path / "out/desk/dir/mixed").read_bytes() == snap.contents[b"desk/dir/mixed"]
    assert (tmp_path / "out/desk/old").stat().st_size == 0
    assert not (tmp_path / "out/desk/sparse").exists()


@pytest.mark.parametrize(
    ("chunk", "place", "value"),
    [(6, 0, 0), (3, 1, 1), (3, 4, 69_999), (3, 5, 1)],
    ids=["pack", "number", "raw length", "codec"],
)
def test_a_chunk_is_bound_to_its_place(
    chunk: int, place: int, value: int, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sound bytes under another pack, number, length or codec: the seal's associated data do not fit."""

    def change(snap: Snapshot) -> None:
        row(chunk, place, value)(snap)
        if place == 0:  # packs 1 and 2 exchange their only chunks
            snap.bend_rows = lambda rows: [rows[0].__setitem__(0, 1), rows[6].__setitem__(0, 2)].clear()
        snap.find(b"mixed").size -= 2 * (70_000 - value) if place == 4 else 0

    snap = build(tmp_path / "repo", change=change)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    pack = f"{OLD}/aaaaaaaa-12" if place == 0 else f"{SNAPSHOT}/0a0b0c0d-0"
    assert f"a seal does not fit (last read: packs/{pack})" in capsys.readouterr().err


@pytest.mark.parametrize("place", [4, 5], ids=["chunk", "bundled file"])
def test_ids_are_checked(place: int, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A hostile host knows its data key, and can seal other bytes; the ids it can't make."""

    def change(snap: Snapshot) -> None:
        if place == 4:
            codec, coded, raw, _ = snap.packs[0].chunks[2]
            snap.packs[0].chunks[2] = (codec, coded, raw, bytes(32))
        else:
            snap.find(b"b").bundled = (0, 300, bytes(32))

    snap = build(tmp_path / "repo", change=change)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert ("chunk 2 is false (BLAKE3)" if place == 4 else "b'b' is false") in capsys.readouterr().err


def test_an_unknown_codec_is_named(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def change(snap: Snapshot) -> None:
        _, coded, raw, digest = snap.packs[0].chunks[2]
        snap.packs[0].chunks[2] = (4, coded, raw, digest)

    snap = build(tmp_path / "repo", change=change)
    assert run(snap, "check", "latest") == 1
    assert "codec 4 is unknown" in capsys.readouterr().err


@pytest.mark.parametrize("what", HOSTILE_ENTRIES)
def test_a_hostile_index_is_refused(what: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a byte is written."""
    snap = build(tmp_path / "repo", change=HOSTILE_ENTRIES[what])
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("unfreeze: error: ")
    assert lines[0].endswith(INDEX)
    assert sorted(os.listdir(tmp_path)) == ["repo"]


def _splice(place: int, data: bytes) -> Callable[[Snapshot], None]:
    def change(snap: Snapshot) -> None:
        snap.bend_index = lambda index: index[:place] + data + index[place + len(data) :]

    return change


HOSTILE_HEADS: dict[str, tuple[Callable[[Snapshot], None], str]] = {
    "magic": (_splice(0, b"torporXX"), "no index"),
    "later version": (_splice(8, b"\2\0"), "format version 2"),
    "reserved": (_splice(10, b"\1"), "impossible head"),
    "huge number of sections": (_splice(16, b"\xff\xff\xff\xff"), "impossible head"),
    "huge number of packs": (_splice(20, b"\xff\xff\xff\xff"), "impossible head"),
    "unknown section": (_splice(32, b"\x09"), "impossible section"),
    "another kind of section": (_splice(32, b"\3"), "a seal does not fit"),
    "rows": (_splice(36, b"\7"), "a seal does not fit"),
    "no rows": (_splice(36, b"\0\0\0\0"), "impossible section"),
    "huge section": (_splice(44, b"\xff\xff\xff\xff"), "impossible section"),
    "section elsewhere": (_splice(48, b"\0\0"), "impossible section"),
    "bytes after the end": (lambda snap: setattr(snap, "bend_index", lambda index: index + b"x"), "do not add up"),
    "pack outside": (lambda snap: setattr(snap.packs[1], "name", f"{OLD}/../{OLD}-1"), "is no pack"),
    "pack of odd number": (lambda snap: setattr(snap.packs[1], "name", f"{OLD}/aaaaaaaa-012"), "is no pack"),
    "pack twice": (lambda snap: setattr(snap.packs[1], "name", snap.packs[0].name), "do not add up"),
    "pack of a stranger": (lambda snap: setattr(snap.packs[1], "name", f"{OLD}/bbbbbbbb-0"), "not in the keyring"),
    "meta of another snapshot": (lambda snap: snap.meta.update(snapshot=OLD), "another snapshot or root"),
    "no roots": (lambda snap: snap.meta.update(roots=[]), "another snapshot or root"),
    "a root twice": (lambda snap: snap.meta.update(roots=[snap.meta["roots"][0]] * 2), "another snapshot or root"),
    "a root of an unknown kind": (lambda snap: snap.meta["roots"][0].update(kind="absent"), "not in tuple"),
    "meta without roots": (lambda snap: snap.meta.pop("roots"), "KeyError"),
    "a root that is absent": (lambda snap: setattr(snap.entries[14], "kind", 4), "is impossible"),
}


@pytest.mark.parametrize("what", HOSTILE_HEADS)
def test_a_hostile_head_is_refused(what: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change, reason = HOSTILE_HEADS[what]
    snap = build(tmp_path / "repo", change=change)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_bytes_than_columns_are_refused() -> None:
    """No number in the bytes makes more than the bytes hold."""
    for data in (b"", b"\4\0\0", b"\5\0\0\0abcd", b"\4\0\0\0abc", b"\xff\xff\xff\xffabcd", b"\0\0\0\0"):
        with pytest.raises((struct.error, ValueError)):
            unfreeze.Reader(data).column("I", 1)
    for lengths in ([NONE] * 65536, [5], [3], []):
        with pytest.raises((struct.error, ValueError)):
            unfreeze.Reader(b"\4\0\0\0abcd").strings(lengths)

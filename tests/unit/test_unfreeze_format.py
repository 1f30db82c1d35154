"""tools/unfreeze.py against snapshots made by hand from docs/format.md (byhand.py): what it restores and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tests.unit.byhand import MTIME, OLD, SNAPSHOT, Repository, Snapshot, build, hkdf
from tests.unit.byhand_hostile import HOSTILE_ENTRIES, row
from tools import unfreeze

ROOT = os.geteuid() == 0
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the tool on tmp_path/repo with the recovery key of `snap`, if one is given."""

    def run(snap: Snapshot | None, command: str, *arguments: str) -> int:
        monkeypatch.delenv("TORPOR_RECOVERY_KEY", raising=False)
        if snap:
            monkeypatch.setenv("TORPOR_RECOVERY_KEY", snap.repo.recovery_key())
        return unfreeze.main([command, str(tmp_path / "repo"), *arguments])

    return run


def at(folder: Path, path: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + path))


def assert_restored(snap: Snapshot, target: Path) -> None:
    found = {os.fsencode(p.relative_to(target)) for p in target.rglob("*")}
    assert found == {*snap.contents, b"work", b"work/dir", b"work/link"}
    for path, content in snap.contents.items():
        assert at(target, path).read_bytes() == content, path


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_a_snapshot_comes_back_whole(encryption: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo", encryption)
    assert run(snap, "check", "latest") == 0
    assert "all sound" in capsys.readouterr().out
    target = tmp_path / "out"
    assert run(snap, "extract", SNAPSHOT[:8], str(target)) == 0
    assert "not checked" not in capsys.readouterr().err
    assert_restored(snap, target)
    work = target / "work"
    for entry in snap.entries:
        paths = [p for p in target.rglob("*") if os.fsencode(p.name) == entry.name]
        for state in (p.lstat() for p in paths if entry.kind < 3):
            assert state.st_mtime_ns == entry.mtime, entry.name
            assert entry.kind == 2 or stat.S_IMODE(state.st_mode) == entry.mode & 0o1777, entry.name
            assert (state.st_uid, state.st_gid) == ((1234, 4321) if ROOT else (os.geteuid(), state.st_gid))
    assert os.fsencode(os.readlink(work / "link")) == b"/etc/\xffpasswd"
    assert (work / "hard").samefile(work / "a")
    assert (work / "sparse").stat().st_blocks * 512 < 200_000
    assert not (work / "gone").exists()


def test_attributes(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """They come back where the file system has them; where not, that is told."""
    probe = tmp_path / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"1")
        possible = True
    except OSError:
        possible = False
    snap = build(tmp_path / "repo")
    code = run(snap, "extract", "latest", str(tmp_path / "out"))
    if possible:
        a = tmp_path / "out/work/a"
        assert code == 0
        assert {name: os.getxattr(a, name) for name in os.listxattr(a)} == {"user.k": b"v\0w", "user.l": b""}
    else:
        assert code == 3
        assert "user.k" in capsys.readouterr().err


def test_setuid_only_when_asked_and_owned(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    run(snap, "extract", "latest", str(tmp_path / "plain"))
    assert "setuid" in capsys.readouterr().err
    run(snap, "extract", "latest", str(tmp_path / "asked"), "--setuid")
    run(snap, "extract", "latest", str(tmp_path / "mine"), "--setuid", "--no-owners")
    modes = [stat.S_IMODE((tmp_path / name / "work/b").stat().st_mode) for name in ("plain", "asked", "mine")]
    assert modes == [0o755, 0o6755 if ROOT else 0o755, 0o755]
    assert (tmp_path / "mine/work/b").stat().st_uid == os.geteuid()


def test_one_path(tmp_path: Path, run: Run) -> None:
    snap = build(tmp_path / "repo")
    assert run(snap, "extract", "latest", str(tmp_path / "dir"), "--path", "work/dir") == 0
    assert sorted(p.name for p in (tmp_path / "dir").rglob("*")) == ["dir", "four", "mixed", "two", "work"]
    assert stat.S_IMODE((tmp_path / "dir/work").stat().st_mode) == 0o750
    assert run(snap, "extract", "latest", str(tmp_path / "hard"), "--path", "/work/hard/") == 0
    assert (tmp_path / "hard/work/hard").read_bytes() == snap.contents[b"work/a"]  # what it links to was not asked for
    assert run(snap, "extract", "latest", str(tmp_path / "none"), "--path", "work/a/b") == 1
    assert not (tmp_path / "none").exists()


def test_the_target_must_be_empty(tmp_path: Path, run: Run) -> None:
    snap = build(tmp_path / "repo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/work").symlink_to("/")
    assert run(snap, "extract", "latest", str(tmp_path / "full")) == 1
    assert os.listdir(tmp_path / "full") == ["work"]


def test_list_and_show(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    assert run(None, "list") == 0
    public = capsys.readouterr().out
    assert public.startswith(f"{SNAPSHOT}  2026-11-02T03:04:05.678Z  10 files  2.8 MiB raw")
    assert "blue fox" not in public
    assert run(snap, "list") == 0
    assert "blue fox  vast 12  /srv/work" in capsys.readouterr().out
    assert run(snap, "show", "latest") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["private"]["machine"] == "vast 12"
    assert shown["keyring"] == [f"{OLD}/aaaaaaaa", f"{SNAPSHOT}/0a0b0c0d"]
    assert run(snap, "show", "latest", "--files") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("2025-06-15T15:06:40.123456789Z work/hard == work/a") for line in lines)
    assert any(line.startswith("l00777") and line.endswith("work/link -> /etc/\\xffpasswd") for line in lines)
    assert lines[-1] == "problem: /srv/work/gone: vanished it was gone"


def test_recovery_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    text = snap.repo.recovery_key()
    sloppy = text.upper().replace("-", " ").replace("0", "O").replace("1", "l", 3)
    for variant in (text, sloppy, text.replace("-", ""), text.removeprefix("torpor1-"), "-".join(text)):
        assert unfreeze.parse_recovery_key(variant) == snap.repo.recovery, variant
    for bad in (text[:-1], text + "0", text.replace(text[-2], "u"), text[:9] + ("2" if text[9] == "3" else "3") + text[10:]):
        with pytest.raises(unfreeze.Refused, match="recovery key"):
            unfreeze.parse_recovery_key(bad)
    other = Repository(tmp_path / "other", "none").recovery_key()
    keys = tmp_path / "keys.txt"
    keys.write_text(other + "\n")
    assert run(None, "check", "latest", "--recovery-key-file", str(keys)) == 1
    assert "opens nothing under keys/" in capsys.readouterr().err
    keys.write_text(f"{other}\n{text}\n")
    assert run(None, "check", "latest", "--recovery-key-file", str(keys)) == 0
    monkeypatch.setattr("getpass.getpass", lambda prompt: text)
    assert run(None, "check", "latest") == 0


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
@pytest.mark.parametrize("config", [None, b"", b"not json", b'{"signed":{},"key":"' + b"0" * 110 + b'"}\n'])
def test_without_a_sound_config(
    encryption: str, config: bytes | None, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recovery key and keys/ are enough."""
    snap = build(tmp_path / "repo", encryption)
    path = tmp_path / "repo/config.json"
    path.unlink() if config is None else path.write_bytes(config)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 3
    assert "going on with the recovery key" in capsys.readouterr().err
    assert_restored(snap, tmp_path / "out")
    assert run(None, "list") == 1


def test_a_config_of_another_key_is_not_believed(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where it says that nothing is encrypted."""
    snap = build(tmp_path / "repo")
    Repository(tmp_path / "evil", "none")
    shutil.copy(tmp_path / "evil/config.json", tmp_path / "repo/config.json")
    assert run(snap, "check", "latest") == 3
    assert "none of this repository's" in capsys.readouterr().err


def test_config_that_contradicts_its_keys(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    snap.repo.config["keys"][0]["box"] = Repository(tmp_path / "other", "none").config["keys"][0]["box"]
    snap.repo.put("config.json", snap.repo.signed("torpor config v1", snap.repo.config))
    assert run(snap, "check", "latest") == 3
    assert "do not give that key id" in capsys.readouterr().err
    assert run(None, "list") == 1


def test_a_forged_manifest(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    path = tmp_path / f"repo/snapshots/{SNAPSHOT}.json"
    good = path.read_bytes()
    sound, snap.repo.sign = snap.repo.sign, Ed25519PrivateKey.generate()
    path.write_bytes(snap.repo.signed("torpor manifest v1", snap.manifest))
    assert run(snap, "check", "latest") == 1
    assert "forged or damaged" in capsys.readouterr().err
    assert run(None, "list") == 3
    snap.repo.sign = sound
    for context, changes, reason in (
        ("torpor receipt v1", {}, "forged or damaged"),
        ("torpor manifest v1", {"snapshot": OLD}, "another snapshot"),
        ("torpor manifest v1", {"format": 2}, "format version 2"),
        ("torpor manifest v2", {"format": 2}, "format version 2"),
        ("torpor manifest v1", {"keyring": {}}, "not in the keyring"),
        ("torpor manifest v1", {"index": {**snap.manifest["index"], "name": "../index-00000000"}}, "impossible index"),
        ("torpor manifest v1", {"index": None}, "lacks a field"),
    ):
        path.write_bytes(snap.repo.signed(context, {**snap.manifest, **changes}))
        assert run(snap, "check", "latest") == 1
        assert reason in capsys.readouterr().err
    path.write_bytes(good.replace(snap.repo.key.encode(), b"0" * 16))
    assert run(snap, "check", "latest") == 1
    assert "none of this repository's" in capsys.readouterr().err
    path.rename(path.with_name(f"{OLD}.json")).write_bytes(good)
    assert run(snap, "check", OLD) == 1
    assert "another snapshot" in capsys.readouterr().err


def test_a_swapped_index(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Another sound index of the same writer, in the place of the one that the manifest names."""
    snap = build(tmp_path / "repo")
    path = tmp_path / f"repo/packs/{SNAPSHOT}/index-0a0b0c0d"
    before = path.read_bytes()
    snap.entries[7].mtime += 1
    snap.write()
    path.write_bytes(before)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert re.search("the index (is not the one|has not the size) in the manifest", capsys.readouterr().err)
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
    snap = build(tmp_path / "repo")
    (tmp_path / f"repo/packs/{OLD}/aaaaaaaa-12").unlink()
    assert run(snap, "extract", "latest", str(tmp_path / "strict")) == 1
    assert not (tmp_path / "strict/work/old").exists()
    assert not [name for name in os.listdir(tmp_path / "strict") if name.startswith(".unfreeze")]
    assert run(snap, "extract", "latest", str(tmp_path / "out"), "--keep-going") == 3
    assert f"left out old: packs/{OLD}/aaaaaaaa-12 is missing" in capsys.readouterr().err
    del snap.contents[b"work/old"]
    assert_restored(snap, tmp_path / "out")


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
        snap.find(b"mixed").size -= 2 * (70_000 - value) if place == 4 else 0

    snap = build(tmp_path / "repo", change=change)
    assert run(snap, "check", "latest") == 1
    assert "contradicts the table" in capsys.readouterr().err
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert "its seal does not open" in capsys.readouterr().err


@pytest.mark.parametrize("what", HOSTILE_ENTRIES)
def test_a_hostile_index_is_refused(what: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo", change=HOSTILE_ENTRIES[what])
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("unfreeze: error: the index ")
    assert sorted(os.listdir(tmp_path)) == ["repo"]


def _splice(place: int, data: bytes) -> Callable[[Snapshot], None]:
    def change(snap: Snapshot) -> None:
        snap.bend_index = lambda index: index[:place] + data + index[place + len(data) :]

    return change


HOSTILE_HEADS: dict[str, tuple[Callable[[Snapshot], None], str]] = {
    "magic": (_splice(0, b"torporXX"), "not an index"),
    "later version": (_splice(8, b"\2\0"), "format version 2"),
    "reserved": (_splice(10, b"\1"), "impossible head"),
    "huge number of sections": (_splice(16, b"\xff\xff\xff\xff"), "impossible head"),
    "huge number of packs": (_splice(20, b"\xff\xff\xff\xff"), "impossible head"),
    "unknown section": (_splice(32, b"\x09"), "unknown"),
    "two meta sections": (_splice(32, b"\1"), "lacks a section"),
    "rows": (_splice(36, b"\7"), "seal"),
    "huge section": (_splice(44, b"\xff\xff\xff\xff"), "impossible section"),
    "section elsewhere": (_splice(48, b"\0\0"), "impossible section"),
    "bytes after the end": (lambda snap: setattr(snap, "bend_index", lambda index: index + b"x"), "after its last section"),
    "pack outside": (lambda snap: setattr(snap.packs[1], "name", f"{OLD}/../{OLD}-1"), "impossible pack"),
    "pack of odd number": (lambda snap: setattr(snap.packs[1], "name", f"{OLD}/aaaaaaaa-012"), "impossible pack"),
    "pack twice": (lambda snap: setattr(snap.packs[1], "name", snap.packs[0].name), "twice"),
    "pack of a stranger": (lambda snap: setattr(snap.packs[1], "name", f"{OLD}/bbbbbbbb-0"), "not in the keyring"),
    "meta of another snapshot": (lambda snap: snap.meta.update(snapshot=OLD), "another snapshot"),
    "no roots": (lambda snap: snap.meta.update(roots=[]), "no roots"),
    "a root twice": (lambda snap: snap.meta.update(roots=[snap.meta["roots"][0]] * 2), "two of one name"),
    "meta without roots": (lambda snap: snap.meta.pop("roots"), "meta section is damaged"),
}


@pytest.mark.parametrize("what", HOSTILE_HEADS)
def test_a_hostile_head_is_refused(what: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change, reason = HOSTILE_HEADS[what]
    snap = build(tmp_path / "repo", change=change)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_alone_and_without_blake3(encryption: str, tmp_path: Path) -> None:
    """A fresh interpreter away from the project, with the optional packages out of reach."""
    snap = build(tmp_path / "repo", encryption)
    code = "import runpy, sys; sys.modules.update(blake3=None, numpy=None, torpor=None); "
    code += "runpy.run_path(sys.argv.pop(1), None, '__main__')"
    command = [sys.executable, "-I", "-c", code, unfreeze.__file__]
    environment = {"TORPOR_RECOVERY_KEY": snap.repo.recovery_key()} if encryption != "none" else {}
    for arguments in (["check", "repo", "latest"], ["extract", "repo", "latest", "out"]):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        reason = "under the recovery key" if encryption == "none" else "needs the package blake3"
        assert "not checked: " in done.stderr
        assert "ids of raw bytes" in done.stderr
        assert reason in done.stderr
    assert_restored(snap, tmp_path / "out")


def test_hpke_agrees_with_another_implementation() -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    for size in (0, 1, 32, 1000):
        box, data, info = X25519PrivateKey.generate(), os.urandom(size), os.urandom(size % 77)
        assert unfreeze.hpke_open(box, suite.encrypt(data, box.public_key(), info=info), info) == data
        assert unfreeze.hkdf(data, info, b"x") == hkdf(data, info + b"\0x")


def test_times_before_1970_are_kept(tmp_path: Path, run: Run) -> None:
    snap = build(tmp_path / "repo")
    assert run(snap, "extract", "latest", str(tmp_path / "out"), "--path", "work/dir") == 0
    assert (tmp_path / "out/work/dir").stat().st_mtime_ns == -1
    assert (tmp_path / "out/work/dir/two").stat().st_mtime_ns == MTIME

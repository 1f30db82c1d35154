"""tools/unfreeze.py against snapshots made by hand from docs/format.md (byhand.py): what it restores and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tests.unit.byhand import OLD, SNAPSHOT, Repository, Snapshot, build, hkdf
from tests.unit.byhand_hostile import chain
from tools import unfreeze

ROOT = os.geteuid() == 0
INDEX = f"(last read: packs/{SNAPSHOT}/index-0a0b0c0d)"
MANIFEST = f"(last read: snapshots/{SNAPSHOT}.json)"
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the tool on tmp_path/repo with the recovery key of `snap`; without one, if none is given."""

    def run(snap: Snapshot | None, command: str, *arguments: str) -> int:
        monkeypatch.setenv("TORPOR_RECOVERY_KEY", snap.repo.recovery_key() if snap else "")
        return unfreeze.main([command, str(tmp_path / "repo"), *arguments])

    return run


def at(folder: Path, path: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + path))


def assert_restored(snap: Snapshot, target: Path) -> None:
    found = {os.fsencode(p.relative_to(target)) for p in target.rglob("*")}
    assert found == {*snap.contents, b"desk", b"desk/dir", b"desk/link"}
    for path, content in snap.contents.items():
        assert at(target, path).read_bytes() == content, path


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_a_snapshot_comes_back_whole(encryption: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo", encryption)
    assert run(snap, "check", "latest") == 0
    done = capsys.readouterr()
    assert (done.out.partition(":")[0], done.err) == ("sound", "")
    target = tmp_path / "out"
    assert run(snap, "extract", SNAPSHOT[:8], str(target)) == 0
    assert capsys.readouterr().err == "unfreeze: note: an entry could not be saved, and is not made (see show --files)\n"
    assert_restored(snap, target)
    work = target / "desk"
    for entry in snap.entries:
        paths = [p for p in target.rglob("*") if os.fsencode(p.name) == entry.name]
        for state in (p.lstat() for p in paths if entry.kind < 3):
            assert state.st_mtime_ns == entry.mtime, entry.name  # one of them before 1970
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
        a = tmp_path / "out/desk/a"
        assert code == 0
        assert {name: os.getxattr(a, name) for name in os.listxattr(a)} == {"user.k": b"v\0w", "user.l": b""}
    else:
        assert code == 3
        assert "warning: setxattr of an entry could not be done" in capsys.readouterr().err


def test_what_the_system_refuses_is_told(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a system without attributes, or a file system without permissions: all else is restored."""

    def refuse(*arguments: object, **keywords: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.delattr("os.setxattr")
    monkeypatch.setattr("os.chmod", refuse)
    snap = build(tmp_path / "repo")
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 3
    told = capsys.readouterr().err
    assert "warning: setxattr of an entry could not be done" in told
    assert "warning: chmod of an entry could not be done: Operation not permitted (12 times)" in told
    assert_restored(snap, tmp_path / "out")


def test_setuid_and_owners_as_asked(tmp_path: Path, run: Run) -> None:
    snap = build(tmp_path / "repo")
    for name, options, mode in (("plain", [], 0o755), ("asked", ["--setuid"], 0o6755), ("mine", ["--setuid", "--no-owners"], 0o6755)):
        assert run(snap, "extract", "latest", str(tmp_path / name), *options) in (0, 3)
        state = (tmp_path / name / "desk/b").stat()
        assert stat.S_IMODE(state.st_mode) == mode, name
        assert state.st_uid == (1234 if ROOT and name != "mine" else os.geteuid())


def test_the_target_must_be_empty(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/desk").symlink_to("/")
    assert run(snap, "extract", "latest", str(tmp_path / "full")) == 1
    assert "is not empty" in capsys.readouterr().err
    assert os.listdir(tmp_path / "full") == ["desk"]


def test_list_and_show(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    assert run(None, "list") == 0
    done = capsys.readouterr()
    brief = {"snapshot": SNAPSHOT, "created": "2026-11-02T03:04:05.678Z", "files": 10, "raw_bytes": snap.manifest["raw_bytes"]}
    assert json.loads(done.out) == {**brief, "private": {}}
    assert "not checked: that this repository is yours" in done.err
    assert run(snap, "list") == 0
    assert json.loads(capsys.readouterr().out)["private"]["name"] == "blue fox"
    assert run(snap, "show", "latest") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["private"]["machine"] == "vast 12"
    assert shown["keyring"] == snap.manifest["keyring"]
    assert run(snap, "show", "latest", "--files") == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "8 ?00644 1234:4321 0 1750000000123456789 'desk/gone'" in lines
    assert "9 h00644 1234:4321 0 1750000000123456789 'desk/hard' 1" in lines
    assert "10 l00777 1234:4321 0 1750000000123456789 'desk/link' '/etc/\\udcffpasswd'" in lines
    assert any(line.endswith(r"'desk/\udcff\udcfe'") for line in lines)


def test_usage(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    for arguments in (["extract", "latest"], ["check", "latest", "target"]):
        assert run(snap, *arguments) == 1
        assert "only extract has a TARGET" in capsys.readouterr().err
    for wanted in ("", "x", SNAPSHOT[:4]):
        (tmp_path / f"repo/snapshots/{OLD}.json").touch()
        assert run(snap, "check", wanted) == 1
        assert f"{2 * (wanted != 'x')} snapshots in the folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(snap, "destroy")


def test_recovery_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    text, keys = snap.repo.recovery_key(), tmp_path / "key.txt"
    sloppy = text.upper().replace("-", " ").replace("0", "O").replace("1", "l", 3)
    for variant in (text, sloppy, text.replace("-", ""), text.removeprefix("torpor1-"), "-".join(text)):
        assert unfreeze.parse_recovery_key(variant) == snap.repo.recovery, variant
    for bad in (text[:-1], text + "0", text.replace(text[-2], "u"), text[:9] + ("2" if text[9] == "3" else "3") + text[10:]):
        with pytest.raises(ValueError, match="recovery key"):
            unfreeze.parse_recovery_key(bad)
    keys.write_text(Repository(tmp_path / "other", "none").recovery_key() + "\n")
    assert run(None, "check", "latest", "--recovery-key-file", str(keys)) == 1
    assert "opens nothing under keys/" in capsys.readouterr().err
    keys.write_text(text + "\n")
    assert run(None, "check", "latest", "--recovery-key-file", str(keys)) == 0
    assert run(None, "check", "latest") == 1
    assert "the recovery key is needed" in capsys.readouterr().err
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return text

    monkeypatch.delenv("TORPOR_RECOVERY_KEY")
    monkeypatch.setattr("getpass.getpass", ask)
    for arguments, times in ((["list"], 0), (["show"], 0), (["show", "--files"], 1), (["check"], 2)):
        assert unfreeze.main([arguments[0], str(tmp_path / "repo"), *arguments[1:]]) == 0
        assert len(asked) == times


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
    assert "warning: config.json is missing, damaged or forged" in capsys.readouterr().err
    assert_restored(snap, tmp_path / "out")
    assert run(None, "list") == 1
    assert "(last read: config.json)" in capsys.readouterr().err


def test_a_config_of_another_key_is_not_believed(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where it says that nothing is encrypted; and a manifest of that key neither."""
    snap = build(tmp_path / "repo")
    evil = build(tmp_path / "evil", "none")
    shutil.copy(tmp_path / "evil/config.json", tmp_path / "repo/config.json")
    assert run(snap, "check", "latest") == 3
    assert "missing, damaged or forged" in capsys.readouterr().err
    shutil.copytree(tmp_path / "evil", tmp_path / "repo", dirs_exist_ok=True)
    assert run(snap, "extract", "latest", str(tmp_path / "out")) == 1
    assert f"it is signed by key {evil.repo.key}, which is none of {snap.repo.key} {MANIFEST}" in capsys.readouterr().err


def test_keys_that_are_not_what_they_say(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Private keys that do not give the key id; and garbage beside good keys."""
    snap = build(tmp_path / "repo")
    path = tmp_path / f"repo/keys/{snap.repo.key}.json"
    good = path.read_bytes()
    (tmp_path / "repo/keys/garbage.json").write_bytes(b"[")
    assert run(snap, "check", "latest") == 0
    snap.repo.sign, sound = Ed25519PrivateKey.generate(), snap.repo.sign
    snap.repo.generate()
    (tmp_path / f"repo/keys/{snap.repo.key}.json").rename(path)
    path.write_bytes(path.read_bytes().replace(snap.repo.key.encode(), b"0" * 16))
    assert run(snap, "check", "latest") == 1
    assert "opens nothing under keys/" in capsys.readouterr().err
    path.write_bytes(good)
    snap.repo.sign = sound
    assert run(snap, "check", "latest") == 3  # its config.json is of the other keys


def test_rotated_keys(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Under one recovery key, every generation opens. Under another, the older one with its own, and its manifests verify."""
    snap = build(tmp_path / "repo")
    snap.repo.generate()
    assert run(snap, "check", "latest") == 0
    snap.write()  # signed and sealed with the new keys
    assert run(snap, "check", "latest") == 0
    capsys.readouterr()
    old = snap.repo.recovery_key()
    snap.repo.recovery = os.urandom(20)
    snap.repo.generate()
    assert run(snap, "list") == 0
    assert json.loads(capsys.readouterr().out)["private"] == {}
    assert run(snap, "show", "latest", "--files") == 1
    assert f"the recovery key that was given does not open it {INDEX}" in capsys.readouterr().err
    key = tmp_path / "key.txt"
    key.write_text(old)
    assert run(None, "extract", "latest", str(tmp_path / "out"), "--recovery-key-file", str(key)) == 3
    assert_restored(snap, tmp_path / "out")


def test_hpke_agrees_with_another_implementation() -> None:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    for size in (0, 1, 32, 1000):
        box, data, info = X25519PrivateKey.generate(), os.urandom(size), os.urandom(size % 77)
        assert unfreeze.hpke_open(box, suite.encrypt(data, box.public_key(), info=info), info) == data
        assert unfreeze.hkdf(data, "info\0", info) == hkdf(data, b"info\0" + info)


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_alone_and_without_blake3(encryption: str, tmp_path: Path) -> None:
    """A fresh interpreter away from the project, with the optional packages out of reach: which checks were left out is told."""
    snap = build(tmp_path / "repo", encryption)
    code = "import runpy, sys; sys.modules.update(blake3=None, numpy=None, torpor=None); "
    code += "runpy.run_path(sys.argv.pop(1), None, '__main__')"
    command = [sys.executable, "-I", "-c", code, unfreeze.__file__]
    environment = {"TORPOR_RECOVERY_KEY": snap.repo.recovery_key() if encryption != "none" else ""}
    for arguments, packs in ((["check", "repo", "latest"], True), (["extract", "repo", "latest", "out"], False)):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "not checked: BLAKE3 ids of chunks and small files (needs the package blake3 and the recovery key)\n" in done.stderr
        assert ("not checked: BLAKE3 of whole packs (needs the package blake3)\n" in done.stderr) is packs
        assert ("not checked: that this repository is yours" in done.stderr) is (encryption == "none")
    assert_restored(snap, tmp_path / "out")


def test_memory_is_bounded_and_progress_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snap = build(tmp_path / "repo")
    repo = unfreeze.Repository(str(tmp_path / "repo"), snap.repo.recovery)
    opened = unfreeze.Snapshot(repo, repo.manifest(SNAPSHOT))
    assert opened.load.cache_info().maxsize == 8  # decoded chunks, of 4 MiB at most
    opened.load = lru_cache(maxsize=1)(opened._load)
    for number in range(130):
        opened.load(number % 2)
    assert capsys.readouterr().err == "unfreeze: 64 chunks decoded ...\nunfreeze: 128 chunks decoded ...\n"


def test_the_deepest_tree(tmp_path: Path, run: Run) -> None:
    """4,096 folders in folders, the root among them; one more is in byhand_hostile."""
    snap = build(tmp_path / "repo", change=lambda snap: chain(snap, 4095))
    assert run(snap, "check", "latest") == 0

"""Snapshots of format 1, written once by tools/make_golden.py, read for ever: by the engine and by tools/unfreeze.py.

If one of these tests fails, the code is wrong, not the files. Nothing here writes them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torpor.codecs.base import Scratch
from torpor.codecs.planes_layout import parse
from torpor.codecs.table import ROWS, by_id
from torpor.control import catalogue, commit, receipts, repository, restores
from torpor.control.repository import Repository
from torpor.errors import KeysMissing
from torpor.events import ignore
from torpor.format import crypto, entries, names, pack
from torpor.format.entries import ABSENT, ATTRIBUTES, DIRECTORY, HARDLINK, SPARSE, SYMLINK, TORN, Bundled, Chunked
from torpor.format.version import CODEC_PLANES
from torpor.remote.host import InProcess
from torpor.settings import load
from torpor.workspace.indexfile import IndexFile

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "v1"
KEYS = json.loads((GOLDEN / "recovery-keys.json").read_text())
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text())
DIGESTS: dict[str, str] = json.loads((GOLDEN / "digests.json").read_text())
CASES = [(name, snapshot) for name, found in EXPECTED.items() for snapshot in found]


def unb64(text: str) -> bytes:
    return base64.b64decode(text)


def digests() -> dict[str, str]:
    found = [path for path in GOLDEN.rglob("*") if path.is_file() and path.name != "digests.json"]
    return {str(path.relative_to(GOLDEN)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(autouse=True)
def _never_written() -> Iterator[None]:
    yield
    assert digests() == DIGESTS


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A copy, so that nothing can touch the files themselves."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def open_repository(store: Path, name: str, home: Path, **environment: str) -> Repository:
    settings = load({"TORPOR_HOME": str(home), **environment}, (store / name).as_uri())
    return repository.open_repository(settings)


def with_key(store: Path, name: str, tmp_path: Path) -> Repository:
    return open_repository(store, name, tmp_path / "home", TORPOR_RECOVERY_KEY=KEYS[name])


def test_no_file_is_missing_or_changed() -> None:
    assert digests() == DIGESTS
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 300_000


def compare(target: Path, expected: dict[str, Any], *, attributes: bool) -> None:
    """A restored tree, each root below `target` by its name, against what must come back."""
    base = os.fsencode(target)
    rows = {unb64(path): facts for path, facts in expected["entries"].items()}
    there = set()
    for root in expected["roots"]:
        top = os.path.join(base, unb64(root))
        there.add(unb64(root))
        for folder, folders, files in os.walk(top):
            there |= {os.path.relpath(os.path.join(folder, name), base) for name in (*folders, *files)}
    assert there == {path for path, facts in rows.items() if facts["type"] != "absent"}
    for path, facts in rows.items():
        where = os.path.join(base, path)
        if facts["type"] == "absent":
            continue
        status = os.lstat(where)
        assert status.st_mtime_ns == facts["mtime"] or facts["type"] == "hardlink", path
        if facts["type"] == "symlink":
            assert os.readlink(where) == unb64(facts["target"])
            continue
        assert stat.S_IMODE(status.st_mode) == facts["mode"], path
        if facts["type"] == "hardlink":
            assert os.path.samefile(where, os.path.join(base, unb64(facts["link"])))
        elif facts["type"] == "directory":
            assert stat.S_ISDIR(status.st_mode)
        else:
            data = Path(os.fsdecode(where)).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (facts["size"], facts["sha256"]), path
            if facts["flags"] & SPARSE and facts["size"] > 1 << 20:
                assert status.st_blocks * 512 < facts["size"] // 2, path
        if attributes and facts["type"] != "hardlink":
            found = {os.fsencode(name): os.getxattr(where, name) for name in os.listxattr(where) if name.startswith("user.")}
            assert found == {unb64(name): unb64(value) for name, value in facts.get("attributes", {}).items()}, path


def keeps_attributes(folder: Path) -> bool:
    """Whether the file system of the test's own folder has `user.*` attributes: not all have."""
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.torpor.probe", b"x")
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("name", "snapshot"), CASES)
def test_the_engine_restores_it(name: str, snapshot: str, store: Path, tmp_path: Path) -> None:
    repo = with_key(store, name, tmp_path)
    expected = EXPECTED[name][snapshot]
    maps = {unb64(path): os.fsencode(tmp_path / "target") + b"/" + unb64(root) for root, path in expected["roots"].items()}
    options = restores.Options(owners="none", maps=maps)
    restores.restore(repo, InProcess(), snapshot, None, os.fsencode(tmp_path / "state"), options, ignore)
    compare(tmp_path / "target", expected, attributes=keeps_attributes(tmp_path))


@pytest.mark.parametrize(("name", "snapshot"), CASES)
def test_unfreeze_restores_it(name: str, snapshot: str, store: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TORPOR_RECOVERY_KEY": KEYS[name]}
    for command in (["check"], ["extract", "--no-owners"]):
        arguments = [str(store / name), snapshot, *([str(tmp_path / "target")] if command[0] == "extract" else [])]
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools/unfreeze.py"), command[0], *arguments, *command[1:]],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 3), done.stderr  # 3: it tells that a file was torn or vanished when it was saved
        assert "damaged" not in done.stderr
    compare(tmp_path / "target", EXPECTED[name][snapshot], attributes=keeps_attributes(tmp_path))


@pytest.mark.parametrize("name", EXPECTED)
def test_every_byte_verifies(name: str, store: Path, tmp_path: Path) -> None:
    repo = with_key(store, name, tmp_path)
    assert catalogue.ids(repo) == sorted(EXPECTED[name])
    for snapshot in EXPECTED[name]:
        (old,) = receipts.load_all(repo, snapshot)
        assert old.depth == "full"
        found = receipts.verify(repo, snapshot, "full", ignore)
        assert found.damage == {}
        assert found.files == sum(facts["type"] == "file" for facts in EXPECTED[name][snapshot]["entries"].values())


def test_the_encrypted_one_needs_its_key(store: Path, tmp_path: Path) -> None:
    repo = open_repository(store, "encrypted", tmp_path / "home")
    loaded = catalogue.load(repo, catalogue.ids(repo)[0])  # the public part is there for everybody
    assert loaded.private is None
    with pytest.raises(KeysMissing):
        commit.data_keys(repo, loaded.manifest.keyring)
    with pytest.raises(KeysMissing):
        open_repository(store, "encrypted", tmp_path / "other", TORPOR_RECOVERY_KEY=KEYS["plain"])


def index_of(repo: Repository, snapshot: str) -> IndexFile:
    found = catalogue.load(repo, snapshot).manifest
    spool = commit.fetch_index(repo, found.index)
    return commit.open_index(repo, _kept(spool), found.index, commit.data_keys(repo, found.keyring), snapshot)


_open: list[Any] = []


def _kept(spool: Any) -> Any:
    _open.append(spool)
    return spool


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


@pytest.mark.parametrize(("name", "snapshot"), CASES)
def test_the_index_says_what_it_said(name: str, snapshot: str, store: Path, tmp_path: Path) -> None:
    found = index_of(with_key(store, name, tmp_path), snapshot)
    expected = EXPECTED[name][snapshot]
    paths: list[bytes] = []
    kinds = ("directory", "file", "symlink", "hardlink", "absent")
    for block in found.checked_blocks():
        for row, entry in enumerate(block.names):
            paths.append(entry if block.parent[row] >= len(paths) else paths[block.parent[row]] + b"/" + entry)
            facts = expected["entries"][base64.b64encode(paths[-1]).decode()]
            assert (kinds[block.type[row]], block.mode[row], block.mtime[row], block.flags[row]) == tuple(
                facts[field] for field in ("type", "mode", "mtime", "flags")
            )
            pairs = entries.decode_attributes(block.attributes[row]) if row in block.attributes else []
            assert dict(pairs) == {unb64(key): unb64(value) for key, value in facts.get("attributes", {}).items()}
    assert len(paths) == len(expected["entries"])
    problems = sorted(f"{problem.kind} {base64.b64encode(problem.path).decode()}" for problem in found.problems())
    assert problems == expected["problems"]


@pytest.mark.parametrize("name", EXPECTED)
def test_everything_is_in_them(name: str, store: Path, tmp_path: Path) -> None:
    """So that nobody puts weaker files in their place."""
    repo = with_key(store, name, tmp_path)
    codecs, types, flags, widths, seen = set(), set(), 0, set(), set()
    for snapshot in catalogue.ids(repo):
        found = index_of(repo, snapshot)
        chunks = found.chunks
        seen |= {"several roots"} if len(found.meta.roots) > 1 else set()
        seen |= {f"a root that is a {root.kind}" for root in found.meta.roots}
        seen |= {"packs of another snapshot" for item in found.head.packs if names.snapshot_of(item.name) != snapshot}
        seen |= {"a hole" for place in range(len(chunks)) if chunks.is_hole(place)}
        seen |= {"the store's digest" for item in found.head.packs if item.digest_kind}
        codecs |= {chunks.codec[place] for place in range(len(chunks)) if not chunks.is_hole(place)}
        for block in found.checked_blocks():
            types |= set(block.type)
            for row, content in enumerate(block.content):
                flags |= block.flags[row]
                seen |= {"an mtime before 1970"} if block.mtime[row] < 0 else set()
                seen |= {"a bundle"} if isinstance(content, Bundled) and content.offset else set()
                seen |= {f"chunker {content.chunker}"} if isinstance(content, Chunked) else set()
        widths |= set(planes_of(repo, snapshot, found))
    assert codecs == {row.id for row in ROWS if row.id <= CODEC_PLANES}
    assert types == {DIRECTORY, entries.FILE, SYMLINK, HARDLINK, ABSENT}
    assert flags == TORN | SPARSE | ATTRIBUTES
    assert widths == {2, 4}
    assert seen == {
        "several roots", "a root that is a directory", "a root that is a file", "packs of another snapshot", "a hole", "the store's digest",
        "an mtime before 1970", "a bundle", "chunker 1", "chunker 2",
    }  # fmt: skip


def planes_of(repo: Repository, snapshot: str, found: IndexFile) -> Iterator[int]:
    """The widths of the elements of all chunks coded as planes."""
    keys, _ = restores.restore_keys(repo, catalogue.load(repo, snapshot))
    chunks = found.chunks
    for place in range(len(chunks)):
        if chunks.is_hole(place) or chunks.codec[place] != CODEC_PLANES:
            continue
        name = found.head.packs[chunks.pack[place]].name
        sealed = repo.store.get(names.PACKS + name, chunks.offset[place], chunks.sealed[place])
        aad = pack.chunk_aad(pack.chunk_aad_prefix(repo.id, name), chunks.number[place], CODEC_PLANES, chunks.raw[place])
        coded = crypto.Sealer(keys.packs[name]).open(chunks.number[place], sealed, aad, name)
        out = bytearray(chunks.raw[place])
        by_id(CODEC_PLANES).decode(coded, len(out), memoryview(out), Scratch())
        yield parse(memoryview(coded), len(out)).width

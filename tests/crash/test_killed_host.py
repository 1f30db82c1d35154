"""The host's engine dies, the control side lives: it says so, and the same command goes on where the host was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.killed import host, open_lab
from tests.engine.lab import same, write
from torpor.errors import HostFailed
from torpor.testing import nasty
from torpor.testing.samples import noise
from torpor.workspace import journal

MIB = 1 << 20


def journaled(path: Path) -> list[journal.JournalPack]:
    found = journal.read(os.fsencode(path))
    return [] if found is None else found[1]


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 9])
def test_of_a_snapshot(tmp_path: Path, at: int) -> None:
    root = tmp_path / "workspace"
    nasty.make(root / "in", ["names", "hardlinks"])
    write(root / "large", noise(9 * MIB))
    lab = open_lab(tmp_path / "lab")
    lab.host = host(at, after=at % 2 == 1)
    with pytest.raises(HostFailed, match="ended without a result"):
        lab.take(root)
    sent = lab.objects("packs/")
    # What was put and is in the journal is not sent again; packs in the hands of the uploaders may not have come so far.
    noted = {"packs/" + pack.name: pack.size for path in (lab.folder / "state").glob("*/journals/*/*") for pack in journaled(path)}
    assert noted.keys() <= sent.keys()
    assert noted or at < 8
    assert lab.objects("snapshots/") == {}
    lab.host = host()
    taken = lab.take(root)
    assert taken.snapshot.manifest.new_bytes <= taken.snapshot.manifest.stored_bytes - sum(noted.values()) + MIB
    lab.check_all()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


@pytest.mark.parametrize("at", [1, 2, 4, 9, 20, 40])
def test_of_a_restore(tmp_path: Path, at: int) -> None:
    root = tmp_path / "workspace"
    nasty.make(root / "in", ["names", "hardlinks"])
    write(root / "large", noise(9 * MIB))
    lab = open_lab(tmp_path / "lab")
    lab.host = host()
    lab.take(root)
    lab.host = host(at, after=at % 2 == 1)
    with pytest.raises(HostFailed, match="ended without a result"):
        lab.restore(tmp_path / "out")
    lab.host = host()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")

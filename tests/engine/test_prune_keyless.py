"""Prune by a computer that has the bucket and no key: it does all that one with keys does, and is fooled by nothing more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from torpor.clock import FakeClock, rfc3339
from torpor.control import catalogue, marks, prune
from torpor.control.repository import Repository
from torpor.errors import Damaged, Malformed, RollbackSuspected, TorporError, UsageError
from torpor.storage.memory import MemoryStore, Object
from torpor.testing.samples import noise

MIB = 1 << 20
DAY = prune.GRACE


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    clock = FakeClock(1_900_000_000.0)
    return Lab(tmp_path / "lab", clock, MemoryStore(clock))


@pytest.fixture
def ids(lab: Lab, root: Path) -> list[str]:
    """Two snapshots, which share a file; both were verified."""
    found = []
    write(root / "stays", noise(MIB, 1))
    for number in range(2):
        write(root / "changes", noise(MIB, 10 + number))
        found.append(lab.take(root).snapshot.id)
        lab.verify(found[-1])
    return found


@pytest.fixture
def stranger(lab: Lab, ids: list[str]) -> Repository:
    """Another computer's view: no key, no past."""
    found = lab.open("stranger")
    assert found.keys is None
    return found


def advance(lab: Lab, seconds: float) -> None:
    assert isinstance(lab.clock, FakeClock)
    lab.clock.advance(seconds)


def test_it_marks_waits_and_deletes(lab: Lab, ids: list[str], stranger: Repository, root: Path, tmp_path: Path) -> None:
    lab.remove(ids[0])
    dry = prune.prune(stranger, dry_run=True)
    marked = prune.prune(stranger)
    assert marked.marked == dry.marked
    assert marked.marked
    (name,) = lab.objects("marks/")
    assert json.loads(lab.memory.objects[name].data)["objects"] == sorted(marked.marked)
    advance(lab, DAY - 1)
    early = prune.prune(stranger)
    assert (early.deleted, early.marked, early.waiting) == ({}, {}, len(marked.marked))
    advance(lab, 2)
    assert prune.prune(stranger).deleted == marked.marked
    assert lab.objects("marks/") == {}
    assert lab.check_all() == ids[1:]
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_at_once(lab: Lab, ids: list[str], stranger: Repository) -> None:
    lab.remove(ids[0])
    dry = prune.prune(stranger, grace=0, dry_run=True)
    done = prune.prune(stranger, grace=0)
    assert done.deleted == dry.deleted == done.marked
    assert done.deleted


def test_either_goes_on_with_the_other_s_mark(lab: Lab, ids: list[str], stranger: Repository) -> None:
    lab.remove(ids[0])
    for first, second in ((stranger, lab.repository), (lab.repository, stranger)):
        before = dict(lab.memory.objects)
        prune.prune(first)
        advance(lab, DAY + 1)
        assert prune.prune(second).deleted
        lab.memory.objects.clear()
        lab.memory.objects.update(before)


def test_a_date_in_the_past_does_not_shorten_the_grace(lab: Lab, ids: list[str], stranger: Repository) -> None:
    lab.remove(ids[0])
    doomed = sorted(prune.prune(stranger, dry_run=True).marked)
    forge(lab, "20200101T000000000", doomed, at=0.0)
    assert prune.prune(stranger).deleted == {}
    advance(lab, DAY + 1)
    assert sorted(prune.prune(stranger).deleted) == doomed


def test_what_is_needed_stays_whatever_a_mark_says(lab: Lab, ids: list[str], stranger: Repository, root: Path) -> None:
    """All of it in a forged mark: nothing goes. The next snapshot does not build on it, and once the mark is gone all is as before."""
    everything = sorted(lab.objects("packs/"))
    forge(lab, "20300101T000000000", everything)
    taken = lab.take(root)
    assert taken.snapshot.manifest.new_bytes > 2 * MIB
    advance(lab, DAY + 1)
    report = prune.prune(stranger)
    assert (report.deleted, report.kept) == ({}, len(everything))
    assert lab.objects("marks/") == {}
    assert lab.check_all() == [*ids, taken.snapshot.id]


@pytest.mark.parametrize("name", ["snapshots/", "keys/", "config.json", "receipts/"])
def test_a_mark_of_other_objects_is_refused(lab: Lab, ids: list[str], stranger: Repository, name: str) -> None:
    forge(lab, "20300101T000000000", [next(iter(lab.objects(name)))])
    before = lab.objects()
    with pytest.raises(Malformed, match="other objects than packs"):
        prune.prune(stranger, grace=0)
    assert lab.objects() == before


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"signed":{}}', b'{"format":1,"time":"x","objects":[],"bytes":0}'])
def test_a_mark_that_is_none(lab: Lab, ids: list[str], stranger: Repository, data: bytes) -> None:
    lab.memory.objects["marks/20300101T000000000-00000000.json"] = Object(data, 0.0, b"")
    before = lab.objects()
    with pytest.raises(TorporError):
        prune.prune(stranger, grace=0)
    assert lab.objects() == before


def forge(lab: Lab, time: str, objects: list[str], at: float | None = None) -> None:
    payload = {"format": 1, "time": rfc3339(lab.clock.now() if at is None else at), "objects": objects, "bytes": 0}
    lab.memory.put(f"marks/{time}-00000000.json", json.dumps(payload).encode())


# refusals


@pytest.mark.parametrize("what", ["manifest", "index", "no index", "claim"])
def test_what_cannot_be_believed_stops_it(lab: Lab, ids: list[str], stranger: Repository, what: str) -> None:
    index = "packs/" + catalogue.load(lab.repository, ids[1]).manifest.index.name
    name = {"manifest": f"snapshots/{ids[1]}.json", "claim": "claims/20300101T000000000-00000000.json"}.get(what, index)
    if what == "no index":
        del lab.memory.objects[name]
    else:
        data = bytearray(lab.memory.objects.get(name, lab.memory.objects[index]).data)
        data[60] ^= 1
        lab.memory.objects[name] = Object(bytes(data), 0.0, b"")
    lab.remove(ids[0])
    before = lab.objects()
    with pytest.raises((Damaged, Malformed)):
        prune.prune(stranger, grace=0)
    assert lab.objects() == before


def test_a_lost_manifest_stops_it_until_the_loss_is_known(
    lab: Lab, ids: list[str], stranger: Repository, root: Path, tmp_path: Path
) -> None:
    """A computer without a past sees it by the receipts; put back, everything is there."""
    name = f"snapshots/{ids[1]}.json"
    lost = lab.memory.objects.pop(name)
    for repository in (stranger, lab.repository):
        with pytest.raises(RollbackSuspected):
            prune.prune(repository, grace=0)
    lab.memory.objects[name] = lost
    prune.prune(stranger, grace=0)
    lab.restore(tmp_path / "out", ids[1])
    same(root, tmp_path / "out")
    del lab.memory.objects[name]
    prune.remove(lab.repository, ids[1], damaged=True)
    assert prune.prune(stranger, grace=0).deleted
    assert lab.check_all() == ids[:1]


def test_lists_that_can_be_late_need_the_whole_grace(lab: Lab, ids: list[str], stranger: Repository) -> None:
    lab.memory._capabilities = lab.memory.capabilities._replace(consistent_list=False)
    lab.remove(ids[0])
    with pytest.raises(UsageError, match="lists can be late"):
        prune.prune(stranger, grace=0)
    assert len(marks.load_all(stranger)) == 1
    advance(lab, DAY + 1)
    assert prune.prune(stranger).deleted

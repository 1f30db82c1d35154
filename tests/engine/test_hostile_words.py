"""Words of a stranger: manifests signed by a stolen key, and what a host reports or says it remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.lab import Lab, write
from tests.engine.stranger import Change, Stranger, index_ref, manifest
from tests.properties.test_parsers_memory import peak
from tests.unit.byhand import OLD, SNAPSHOT, b64
from torpor.control import snapshots
from torpor.errors import Damaged, HostFailed, Malformed
from torpor.events import ignore
from torpor.format import crypto
from torpor.format.manifest import IndexRef
from torpor.jobs import ProbeResult, Scope, SnapshotJob

MIB = 1 << 20


# Manifests of a stolen key.

KEYRING = {f"{SNAPSHOT}/0a0b0c0d": b64(b"short"), f"{OLD}/aaaaaaaa": b64(bytes(80))}
MANIFESTS: dict[str, Change] = {
    "of a later format": manifest(format=2),
    "of no format": manifest(format=0),
    "of another snapshot": manifest(snapshot=OLD),
    "of no lineage": manifest(lineage="../../x"),
    "created never": manifest(created="never"),
    "a keyring without the index's writer": manifest(keyring={}),
    "a keyring of other names": manifest(keyring={"../../../x": ""}),
    "a keyring of garbage": manifest(keyring=KEYRING),
    "numbers that are words": manifest(files="many"),
    "private fields of garbage": manifest(private=b64(b"garbage")),
    "an index of another snapshot": index_ref(name=f"{OLD}/index-aaaaaaaa"),
    "an index elsewhere": index_ref(name="../config.json"),
    "an index of no bytes": index_ref(size=0, head_size=0),
    "an index of negative size": index_ref(size=-1),
    "an index of 2^62 bytes": index_ref(size=1 << 62),
    "a head longer than the index": index_ref(head_size=1 << 40),
    "another digest": index_ref(sha256="0" * 64),
    "another digest of the head": index_ref(head_sha256="0" * 64),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_signed_manifest_that_lies_is_refused(what: str, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path, MANIFESTS[what])
    before = there.outside()
    with pytest.raises((Malformed, Damaged)):
        there.restore()
    assert peak(there.restore) < 20 * MIB
    assert there.written() == []
    assert there.outside() == before


# The host's report.


@pytest.mark.parametrize(
    "changes",
    [
        {"snapshot": OLD},
        {"rental": "x" * 100_000},
        {"stages": {f"stage {number}": 1.0 for number in range(100_000)}},
        {"stages": {"x" * 100_000: 1.0}},
        {"stages": {"read": float("nan")}},
        {"stages": {"read": float("inf")}},
        {"seconds": float("nan")},
        {"versions": {"torpor": "x" * 1_000_000}},
        {"keys": {}},
        {"keys": {"../../x": b""}},
    ],
    ids=lambda changes: f"{next(iter(changes))} {str(next(iter(changes.values())))[:20]}",
)
def test_a_report_that_no_engine_makes_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    """It would be signed with the rest; a manifest that can't be read again would stop every prune."""
    there = Stranger.make(tmp_path)
    result = there.result()
    for name, value in changes.items():
        setattr(result, name, value)
    with pytest.raises((Malformed, Damaged)):
        there.commit(result=result)
    assert not there.committed()


@pytest.mark.parametrize("head_size", [0, -1, 1, 31, 1 << 40, 1 << 62, 1 << 70])
def test_a_head_of_any_length_is_refused(head_size: int, tmp_path: Path) -> None:
    there = Stranger.make(tmp_path)
    result = there.result()
    result.index = IndexRef(result.index.name, result.index.size, result.index.sha256, head_size, "0" * 64)
    with pytest.raises((Malformed, Damaged)):
        there.commit(result=result)
    assert not there.committed()


def test_packs_that_the_job_may_not_name(tmp_path: Path) -> None:
    there = Stranger.make(tmp_path)
    right = there.allowed()
    for allowed in ({}, {name: size + 1 for name, size in right.items()}, {f"{OLD}/aaaaaaaa-9": 5}):
        with pytest.raises(Malformed, match="may not use"):
            there.commit(allowed=allowed)
    with pytest.raises(Malformed, match="may not read"):
        there.commit(continues=())
    for pack in (there.folder / "repo" / "packs").rglob("*-12"):
        pack.write_bytes(pack.read_bytes()[:-1])
    with pytest.raises(Damaged, match="missing from the store"):
        there.commit(allowed=right)
    assert not there.committed()


@pytest.mark.parametrize(
    "answer",
    [
        {"lineage": "../../x"},
        {"lineage": "0" * 31},
        {"lineage": "0" * 32, "snapshot": "../config.json"},
        {"continues": [OLD, ""]},
        {"continues": ["../" + OLD]},
        {"continues": [OLD] * 2000},
    ],
    ids=str,
)
def test_a_memory_that_no_host_has_is_refused(answer: dict[str, Any], tmp_path: Path) -> None:
    """What a host says it remembers becomes part of names and keys."""
    there = Stranger.make(tmp_path)
    before = {info.name for info in there.repository.store.list()}

    class Host:
        def run(self, job: Any, listen: Any, ask: Any = None) -> Any:
            return ProbeResult(rental="1" * 32, **answer)

    with pytest.raises(HostFailed):
        snapshots.take(there.repository, Host(), Scope(roots=[b"/work"]), b"", snapshots.Options(), ignore)
    assert {info.name for info in there.repository.store.list()} == before


@pytest.mark.parametrize("ticket", [b"", b"0" * 32], ids=["none", "false"])
def test_another_workspaces_lineage_is_not_given_away(ticket: bytes, tmp_path: Path) -> None:
    """A host that names a lineage it was never given learns neither its id key nor the names of its packs."""
    lab = Lab(tmp_path / "lab")
    write(tmp_path / "work" / "a.txt", "somebody's work\n")
    theirs = lab.take(tmp_path / "work").snapshot.manifest
    jobs: list[SnapshotJob] = []

    class Host:
        def run(self, job: Any, listen: Any, ask: Any = None) -> Any:
            if isinstance(job, SnapshotJob):
                jobs.append(job)
                raise HostFailed("enough")
            return ProbeResult(rental="1" * 32, lineage=theirs.lineage, ticket=ticket, snapshot=theirs.snapshot)

    with pytest.raises(HostFailed, match="enough"):
        snapshots.take(lab.repository, Host(), Scope(roots=[b"/work"]), b"", snapshots.Options(), ignore)
    assert jobs[0].lineage != theirs.lineage
    assert jobs[0].keys.id_key != crypto.id_key(lab.repository.private().private.root, theirs.lineage)
    assert jobs[0].allowed == {}

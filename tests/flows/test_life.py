"""Hibernate and wake, end to end, through a real server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.hibernate import hibernate
from flows.wake import wake
from tests.flows.field import Field, flow_run, newest, until
from torpor.control import catalogue, receipts
from torpor.errors import DestroyRefused, MachineError, NotFound, TargetNotEmpty
from torpor.testing import nasty
from torpor.testing.compare import compare_trees

pytestmark = pytest.mark.usefixtures("api")


def test_everything_comes_back(field: Field, original: Path) -> None:
    nasty.make(original / "nasty", [part for part in nasty.PARTS if part not in ("holes", "sizes")])
    box = field.machine("box", original)
    slept = flow_run(hibernate("local:box", name="first", labels={"run": "7"}))
    assert (slept["destroyed"], slept["rounds"], slept["problems"]) == (True, 1, {})
    assert box.status().state == "destroyed"
    assert not box.workspace.exists()

    woke = flow_run(wake("latest", on="local:other", setuid=True))
    other = field.machine("other")
    assert woke["machine"] == "local:other"
    assert compare_trees(original, other.workspace) == []
    assert (woke["files"], woke["raw_bytes"]) == (slept["files"], slept["raw_bytes"])
    assert 0 < woke["usable_seconds"] <= woke["seconds"]

    repository = field.repository()
    snapshot = catalogue.load(repository, slept["snapshot"])
    assert snapshot.private is not None
    assert (snapshot.private.name, snapshot.private.machine, snapshot.private.labels) == ("first", "local:box", {"run": "7"})
    (receipt,) = receipts.load_all(repository, slept["snapshot"])
    assert receipt.host is not None
    assert (receipt.depth, receipt.host.compared, receipt.host.final_check.changed) == ("full", True, 0)


def test_the_timeline_shows_every_stage(field: Field, original: Path) -> None:
    field.machine("shown", original)
    slept = flow_run(hibernate("local:shown"))
    seen = newest("hibernate local:shown")
    assert seen.state == "Completed"
    assert set(seen.tasks) == {"scan", "compress", "upload", "snapshot", "check", "verify", "destroy"}
    assert {task.state_name for task in seen.tasks.values()} == {"Completed"}
    stages = {name: seen.tasks[name].state.message for name in ("scan", "upload", "verify", "destroy")}  # type: ignore[union-attr]
    assert " files in " in (stages["scan"] or "")
    assert " in " in (stages["upload"] or "")
    assert (stages["verify"] or "").startswith("full: ")
    assert stages["destroy"] == "local:shown is destroyed"
    assert {"scan-progress", "compress-progress", "upload-progress", "verify-progress", "hibernate", "recovery-receipt"} <= set(
        seen.artifacts
    )
    assert {seen.artifacts[f"{stage}-progress"].data for stage in ("scan", "compress", "upload", "verify")} == {100.0}
    assert slept["receipt"] in str(seen.artifacts["recovery-receipt"].data)
    table = str(seen.artifacts["hibernate"].data)
    assert all(word in table for word in ("workspace", "ratio", "codec zstd", "codec raw", "stage upload", "receipt"))

    flow_run(wake("latest", on="local:seen"))
    seen = newest("wake latest")
    assert set(seen.tasks) == {"provision", "download", "decompress", "extract", "restore"}
    assert {"download-progress", "decompress-progress", "extract-progress", "wake"} <= set(seen.artifacts)


def test_without_a_confirmed_key_nothing_is_even_begun(field: Field, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORPOR_RECOVERY_CONFIRMED")
    box = field.machine("unconfirmed", original)
    with pytest.raises(DestroyRefused, match="recovery key of this repository was never confirmed"):
        flow_run(hibernate("local:unconfirmed"))
    assert box.status().state == "running"
    assert field.objects("packs") == []
    seen = newest("hibernate local:unconfirmed")
    assert seen.state == "Failed"
    assert "The machine was left running." in seen.message
    assert "torpor keys confirm" in seen.message
    until(lambda: any("local:unconfirmed is running" in line for line in newest("hibernate local:unconfirmed").logs), "the hook's line")


def test_a_machine_that_stays(field: Field, original: Path) -> None:
    """Saved and verified; the receipt has no word of the host, so nothing can be destroyed on it."""
    box = field.machine("kept", original)
    kept = flow_run(hibernate("local:kept", destroy_after=False, verify="sample"))
    assert (kept["destroyed"], box.status().state) == (False, "running")
    (receipt,) = receipts.load_all(field.repository(), kept["snapshot"])
    assert (receipt.depth, receipt.host) == ("sample", None)
    again = flow_run(hibernate("local:kept"))
    assert again["new_bytes"] < 100_000
    assert box.status().state == "destroyed"


def test_waking_where_something_is(field: Field, original: Path) -> None:
    field.machine("source", original)
    flow_run(hibernate("local:source"))
    busy = field.machine("busy")
    (busy.workspace / "notes.txt").write_text("mine")
    with pytest.raises(TargetNotEmpty):
        flow_run(wake(on="local:busy"))
    assert os.listdir(busy.workspace) == ["notes.txt"]
    flow_run(wake(on="local:busy", mode="merge"))
    assert (busy.workspace / "notes.txt").read_text() == "mine"
    flow_run(wake(on="local:busy", mode="replace"))
    assert compare_trees(original, busy.workspace) == []


def test_new_machines_get_names_of_their_own(field: Field, original: Path) -> None:
    field.machine("named", original)
    slept = flow_run(hibernate("local:named"))
    names = [flow_run(wake(slept["snapshot"][:16]))["machine"] for _ in range(2)]
    assert names == ["local:wake-1", "local:wake-2"]
    with pytest.raises(NotFound):
        flow_run(wake("20990101"))
    assert sorted(path.name for path in (field.home / "machines").iterdir()) == ["named", "wake-1", "wake-2"]


def test_a_machine_that_is_not_there_makes_no_repository(field: Field) -> None:
    with pytest.raises(MachineError, match="local:typo is missing"):
        flow_run(hibernate("local:typo"))
    assert not field.store.exists()
    assert not (field.home / "keys").exists()


def test_no_repository_is_made_for_a_machine_that_goes(field: Field, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the storage, and a key that nobody has seen: with the machine, all would be gone."""
    box = field.machine("typo", original)
    typo = field.store.with_name("stroe")
    with pytest.raises(DestroyRefused, match="nobody has seen"):
        flow_run(hibernate("local:typo", storage=typo.as_uri()))
    assert box.status().state == "running"
    assert not typo.exists()
    kept = flow_run(hibernate("local:typo", storage=typo.as_uri(), destroy_after=False, verify="sample"))
    assert kept["created_repository"] is True


def test_a_repository_does_not_go_with_the_machine(field: Field, original: Path) -> None:
    """It is left out of the snapshot, so nothing else would keep it: it is told before anything is done."""
    box = field.machine("inside", original)
    store = box.workspace / "store"
    flow_run(hibernate("local:inside", storage=store.as_uri(), destroy_after=False))
    before = sorted(str(path) for path in store.rglob("*"))
    with pytest.raises(DestroyRefused, match="holds a repository"):
        flow_run(hibernate("local:inside", storage=store.as_uri()))
    assert box.status().state == "running"
    assert sorted(str(path) for path in store.rglob("*")) == before
    assert newest("hibernate local:inside").tasks == {}

"""A machine goes only on proof: whatever is in doubt, it stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect import flow

from flows import steps
from flows.hibernate import hibernate
from flows.wake import wake
from tasks import machine as machines
from tasks import snapshot as snapshots
from tasks import stages, verify
from tasks.watch import StageState, watching
from tests.flows.field import Field, flow_run
from torpor.control import places, receipts
from torpor.control.destroy import Acceptance
from torpor.control.repository import open_repository
from torpor.control.snapshots import Options
from torpor.errors import Damaged, DestroyRefused, SourceChanged
from torpor.events import Event
from torpor.settings import load
from torpor.testing.compare import compare_trees

pytestmark = pytest.mark.usefixtures("api")


@contextmanager
def at_first(stage: str, act: object) -> Iterator[None]:
    """Do something when a task of this name first begins, before it does its work."""
    done = threading.Event()

    def watcher(what: Event | StageState) -> None:
        if isinstance(what, StageState) and (what.name, what.state) == (stage, "running") and not done.is_set():
            done.set()
            assert callable(act)
            act()

    with watching(watcher):
        yield
    assert done.is_set()


@pytest.mark.parametrize("stage", ["check", "verify"])
def test_a_change_on_the_way_takes_another_round(field: Field, original: Path, stage: str) -> None:
    box = field.machine(f"late-{stage}", original)
    late = box.workspace / "src" / "train.py"
    with at_first(stage, lambda: late.write_text(f"written before {stage}")):
        slept = flow_run(hibernate(box.address))
    assert (slept["rounds"], slept["destroyed"]) == (2, True)
    (receipt,) = receipts.load_all(field.repository(), slept["snapshot"])
    assert receipt.host is not None
    assert receipt.host.final_check.changed == 0
    flow_run(wake(on="local:awake"))
    assert (field.machine("awake").workspace / "src" / "train.py").read_text() == f"written before {stage}"


def test_a_workspace_that_never_holds_still(field: Field, original: Path) -> None:
    box = field.machine("restless", original)
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.wait(0.005):
            number += 1
            (box.workspace / "log.txt").write_text(f"step {number}\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises((SourceChanged, DestroyRefused)) as caught:
            flow_run(hibernate("local:restless", rounds=2))
    finally:
        over.set()
        writer.join()
    assert "log.txt" in str(caught.value)
    assert "The machine was left running." in str(caught.value)
    assert box.status().state == "running"
    assert (box.workspace / "weights.bin").exists()
    assert field.objects("receipts") == []
    assert len(field.objects("snapshots")) == 2
    flow_run(hibernate("local:restless"))
    assert box.status().state == "destroyed"


def test_what_is_open_for_writing_must_be_accepted(field: Field, original: Path) -> None:
    box = field.machine("open", original)
    path = box.workspace / "table.csv"
    with open(path, "r+b"):
        with pytest.raises(DestroyRefused, match=r"open for writing: .*table\.csv"):
            flow_run(hibernate("local:open"))
        assert box.status().state == "running"
        flow_run(hibernate("local:open", accept=[str(path)]))
    assert box.status().state == "destroyed"


def test_ignored_changes_do_not_count(field: Field, original: Path) -> None:
    box = field.machine("ignored", original)
    (box.workspace / "train.log").write_text("step 1")
    with at_first("check", lambda: (box.workspace / "train.log").write_text("step 2")):
        slept = flow_run(hibernate("local:ignored", ignore_changes=["*.log"]))
    assert (slept["rounds"], slept["destroyed"]) == (1, True)


@flow(task_runner=steps.THREADS)
async def hibernate_over_a_bad_disk(address: str, store: str) -> None:
    """The steps of `hibernate`, with a byte of a pack turned over between upload and verification."""
    repository = open_repository(load(), create=True)
    place = places.of_machine(repository.settings, address)
    scope, accept = place.scope(), Acceptance()
    async with steps.session_on(repository, place) as session:
        watching = steps.follow(session, stages.OF_SNAPSHOT)
        taken = await steps.job(session, snapshots.snapshot.submit(session, scope, Options(compare=True)), watching)
        turn(next(path for path in Path(store, "packs").rglob("*") if path.is_file() and "index-" not in path.name))
        check = await steps.done(snapshots.check.submit(session, scope, taken, accept))
        found = await steps.done(verify.prove.submit(session, scope, taken, check, "full", accept))
        assert found.receipt is not None
        await steps.done(machines.destroy.submit(session, found.receipt))


def turn(path: Path) -> None:
    """Flip one bit in the middle."""
    path.chmod(0o600)
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_damaged_pack_is_found_and_the_machine_stays(field: Field, original: Path) -> None:
    box = field.machine("damaged", original)
    with pytest.raises(Damaged, match="are not what they should be: packs/"):
        flow_run(hibernate_over_a_bad_disk("local:damaged", str(field.store)))
    assert box.status().state == "running"
    assert field.objects("receipts") == []
    again = flow_run(hibernate("local:damaged"))  # does not build on the damaged pack, though it is there with the right size
    assert box.status().state == "destroyed"
    flow_run(wake(again["snapshot"], on="local:mended"))
    assert compare_trees(original, field.machine("mended").workspace) == []

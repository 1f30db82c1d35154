"""Which errors are tried again, and that they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from prefect import flow
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import StateType, TaskRun
from prefect.states import Completed, Failed

from flows import steps
from tasks import machine, restore, snapshot, stages, verify
from tasks.policy import can_help
from tests.flows.field import Field, flow_run
from torpor import errors
from torpor.control import places
from torpor.control.repository import Repository
from torpor.control.snapshots import Options
from torpor.errors import StorageUnavailable
from torpor.testing.faults import Faults, FaultyStore

ENGINE: list[Any] = [
    snapshot.snapshot, snapshot.check, verify.prove, verify.verify, machine.provision, machine.destroy, restore.restore,
]  # fmt: skip
STAGES: list[Any] = [*stages.OF_SNAPSHOT, *stages.OF_RESTORE]


@pytest.mark.parametrize("name", errors.all_errors())
def test_an_error_says_itself_whether_trying_again_can_help(name: str) -> None:
    error = errors.all_errors()[name]("what")
    assert can_help(snapshot.snapshot, _run(), Failed(data=error)) is error.retryable


@pytest.mark.parametrize("data", [RuntimeError("a defect"), OSError(5, "I/O error"), None])
def test_what_torpor_did_not_raise_is_not_tried_again(data: object) -> None:
    assert can_help(snapshot.snapshot, _run(), Failed(data=data)) is False
    assert can_help(snapshot.snapshot, _run(), Completed(data=data)) is False


def _run() -> TaskRun:
    return TaskRun(task_key="snapshot", dynamic_key="0", state_type=StateType.FAILED)


@pytest.mark.parametrize("task", ENGINE + STAGES, ids=lambda task: f"{task.name}-{task.fn.__name__}")
def test_every_task_has_the_policy(task: Any) -> None:
    """Stages wait for a job; it is the job that is tried again."""
    assert (task.cache_policy, task.persist_result) == (NO_CACHE, False)
    assert task.retries == (3 if task in ENGINE else 0)
    if task in ENGINE:
        assert task.retry_condition_fn is can_help
        assert task.retry_delay_seconds == [1, 2, 4]
        assert task.retry_jitter_factor == 0.5


@flow(task_runner=steps.THREADS, validate_parameters=False)
async def save(address: str) -> str:
    """A snapshot through the store that `TROUBLE` holds."""
    repository = TROUBLE[0]
    place = places.of_machine(repository.settings, address)
    work = snapshot.snapshot.with_options(retry_delay_seconds=0)
    async with steps.session_on(repository, place) as session:
        watching = steps.follow(session, stages.OF_SNAPSHOT)
        taken = await steps.job(session, work.submit(session, place.scope(), Options()), watching)
        return taken.snapshot.id


TROUBLE: list[Repository] = []


def trouble(repository: Repository, script: dict[str, str]) -> Faults:
    faults = Faults(script)
    TROUBLE[:] = [msgspec.structs.replace(repository, store=FaultyStore(repository.store, faults))]
    return faults


@pytest.mark.usefixtures("api")
def test_a_store_that_answers_in_the_end(field: Field, original: object) -> None:
    field.machine("patient")
    (field.home / "machines" / "patient" / "workspace" / "file").write_text("saved")
    faults = trouble(field.repository(), {"put": "EA"})
    assert flow_run(save("local:patient"))
    assert faults.counts["put"] > 3


@pytest.mark.usefixtures("api")
def test_a_store_that_never_answers(field: Field) -> None:
    field.machine("unlucky")
    faults = trouble(field.repository(), {"put": "E" * 100})
    with pytest.raises(StorageUnavailable):
        flow_run(save("local:unlucky"))
    assert faults.counts["put"] == 4

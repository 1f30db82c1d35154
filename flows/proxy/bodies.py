"""What a worker and its flow run send to the Prefect API 3.8, each body as a type: unknown fields are dropped, texts and lists bounded.

A body is decoded, checked, and written anew from what was understood, so that nothing passes that these types do not name. What is
dropped on purpose: `data` of states and results, which whoever reads them would unpickle; a run's parameters, policies, tags and job
variables; `id` and `flow_run_id` where they could stand for another run's.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

UUID = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d[T ][0-9:.]{5,16}(Z|[+-]\d\d:\d\d)\Z")]
Name = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=20_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
StateType = Literal["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "CANCELLING"]


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of all: fields that were not given are not written."""


class StateDetails(Body, frozen=True):
    transition_id: UUID | None = None
    untrackable_result: bool = False
    retriable: bool | None = None


class State(Body, frozen=True):
    type: StateType
    name: Name | None = None
    message: Text | None = None
    state_details: StateDetails = StateDetails()


class SetState(Body, frozen=True):
    """`POST /flow_runs/{run}/set_state`."""

    state: State
    force: bool = False


class UpdateRun(Body, frozen=True):
    """`PATCH /flow_runs/{run}`: the process's number and the version of the code; the empirical policy with its retries is dropped."""

    infrastructure_pid: Name | None = None
    flow_version: Name | None = None


class Labels(Body, frozen=True, rename=lambda name: name.replace("__", ".").replace("_", "-")):
    """`PATCH /flow_runs/{run}/labels`: who runs it."""

    prefect__worker__name: Name | None = None
    prefect__worker__type: Name | None = None
    prefect__work_pool__name: Name | None = None
    prefect__work_pool__id: Name | None = None


class Poll(Body, frozen=True):
    """`POST /work_pools/{pool}/get_scheduled_flow_runs`: the queue is ours to say. `scheduled_before`, a time of the host's clock, is
    dropped: that may be anything."""

    work_queue_names: list[Name] = []


class Heartbeat(Body, frozen=True):
    """`POST /work_pools/{pool}/workers/heartbeat`."""

    name: Name
    heartbeat_interval_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0


class Log(Body, frozen=True):
    name: Name
    level: Annotated[int, Meta(ge=0, le=100)]
    message: Annotated[str, Meta(max_length=100_000)]
    timestamp: Time
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class NewArtifact(Body, frozen=True):
    """`POST /artifacts/`: progress alone; the other kinds show text and links of the host's as the control side's own."""

    type: Literal["progress"]
    data: Annotated[float, Meta(ge=0, le=100)]
    key: Annotated[str, Meta(pattern=r"^[a-z]{1,20}-progress\Z")] | None = None  # no receipt's, nor a result's
    description: Annotated[str, Meta(max_length=500)] | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class UpdateArtifact(Body, frozen=True):
    """`PATCH /artifacts/{id}`."""

    data: Annotated[float, Meta(ge=0, le=100)] | None = None
    description: Annotated[str, Meta(max_length=500)] | None = None


class TaskPolicy(Body, frozen=True):
    retries: Count = 0


class TaskRun(Body, frozen=True):
    """Of a task's event: what its page shows."""

    name: Name
    task_key: Name
    dynamic_key: Name
    run_count: Count = 0
    flow_run_run_count: Count = 0
    expected_start_time: Time | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    total_run_time: float = 0.0
    empirical_policy: TaskPolicy = TaskPolicy()


class Step(Body, frozen=True, rename={"from_": "from"}):
    from_: StateType | None = None
    to: StateType | None = None


class TaskPayload(Body, frozen=True):
    validated_state: State
    task_run: TaskRun
    intended: Step = Step()
    initial_state: State | None = None


class Event(Body, frozen=True):
    """One message of `/events/in`. `related` is ours to say."""

    occurred: Time
    event: Name
    resource: dict[Name, Text]
    id: UUID
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    follows: UUID | None = None

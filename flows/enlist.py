"""The work pool `gpu`, a queue for each machine, and flow runs in it: what of them is missing is made."""

from __future__ import annotations

import secrets
from contextlib import suppress
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Crashed

from flows.proxy.scope import Scope
from torpor.errors import UsageError

POOL, KIND = "gpu", "process"
FLOW, DEPLOYMENT, ENTRYPOINT = "host-job", "gpu", "flows.on_host.host_job"
_PARAMETERS = {
    "title": "Parameters",
    "type": "object",
    "properties": {"job": {"title": "job", "type": "string", "description": "Name of the job.", "position": 0}},
    "required": ["job"],
}


def enlist(queue: str, job: str) -> Scope:
    """A flow run of `job` that waits in the machine's queue, and all that its host will need the names of. Raises `UsageError`."""
    key = f"{job}-{secrets.token_hex(8)}"  # a request that is sent twice makes one run; another attempt makes another
    with get_client(sync_client=True) as client:
        pool = _pool(client)
        line = _queue(client, queue)
        deployment = _deployment(client)
        run = client.create_flow_run_from_deployment(
            deployment.id, name=job, parameters={"job": job}, work_queue_name=queue, idempotency_key=key, tags=["torpor", "gpu"]
        )
    return Scope(
        run=str(run.id),
        flow=str(run.flow_id),
        deployment=str(deployment.id),
        pool=pool.name,
        pool_id=str(pool.id),
        queue=queue,
        queue_id=str(line.id),
        worker=f"torpor-{key[-16:]}",  # Prefect makes a slug of it for events; this is one
    )


def _pool(client: SyncPrefectClient) -> WorkPool:
    try:
        found = client.read_work_pool(POOL)
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker

        wanted = WorkPoolCreate(name=POOL, type=KIND, base_job_template=ProcessWorker.get_default_base_job_template())
        with suppress(ObjectAlreadyExists):
            return client.create_work_pool(wanted)
        found = client.read_work_pool(POOL)
    if found.type != KIND:
        raise UsageError(
            f"The work pool {POOL} is of type {found.type}.",
            safe="Nothing was started.",
            remedy=f"Delete it; torpor makes one of type {KIND} when it needs it.",
        )
    return found


def _queue(client: SyncPrefectClient, name: str) -> WorkQueue:
    try:
        return client.read_work_queue_by_name(name, work_pool_name=POOL)
    except ObjectNotFound:
        with suppress(ObjectAlreadyExists):
            return client.create_work_queue(name=name, work_pool_name=POOL)
        return client.read_work_queue_by_name(name, work_pool_name=POOL)


def _deployment(client: SyncPrefectClient) -> DeploymentResponse:
    """As prefect.yaml deploys it, or as is made here: code that is installed on the host, nothing to be pulled."""
    with suppress(ObjectNotFound):
        found = client.read_deployment_by_name(f"{FLOW}/{DEPLOYMENT}")
        if (found.entrypoint, found.path, found.work_pool_name) == (ENTRYPOINT, None, POOL) and not found.pull_steps:
            return found
    made = client.create_deployment(
        flow_id=client.create_flow_from_name(FLOW),
        name=DEPLOYMENT,
        entrypoint=ENTRYPOINT,
        work_pool_name=POOL,
        pull_steps=[],
        tags=["torpor", "gpu"],
        description="One job of torpor's on a rented host. Started by torpor alone.",
        parameter_openapi_schema=_PARAMETERS,
    )
    return client.read_deployment(made)


def settle(run: str, why: str) -> FlowRun:
    """The run as it ended; one that did not is marked as crashed, so that it does not stand as running for ever."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run))
        if found.state is None or not found.state.is_final():
            client.set_flow_run_state(found.id, Crashed(message=why), force=True)
        return client.read_flow_run(found.id)

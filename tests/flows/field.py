"""What the flows' tests work on: machines with workspaces, the store's objects, and what the API has to say of runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort

from torpor.control import places, snapshots
from torpor.control.repository import Repository, open_repository
from torpor.events import ignore
from torpor.machines.base import Ground
from torpor.machines.local import LocalMachine
from torpor.settings import load
from torpor.testing.samples import noise, text, weights

LIMIT = 60.0
MIB = 1 << 20


def until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Wait for a condition, with a bound."""
    nap = threading.Event()
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        nap.wait(0.02)


class Field:
    """One control side: a home, a store, local machines."""

    def __init__(self, home: Path, store: Path) -> None:
        self.home = home
        self.store = store

    @property
    def environment(self) -> dict[str, str]:
        """For a process that runs flows of this control side."""
        return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def repository(self) -> Repository:
        return open_repository(load(), create=True)

    def machine(self, name: str, original: Path | None = None) -> LocalMachine:
        """A running machine with a copy of `original` as its workspace."""
        machine = LocalMachine(name, Ground(self.home / "machines"))
        machine.create()
        if original is not None:
            self.repository()  # for the machine's last snapshot, none is made
            subprocess.run(["cp", "-a", f"{original}/.", str(machine.workspace)], check=True)
        return machine

    def objects(self, prefix: str) -> list[str]:
        folder = self.store / prefix
        return sorted(str(path.relative_to(self.store)) for path in folder.rglob("*") if path.is_file())


def fill(root: Path, size: int = MIB) -> Path:
    """A workspace of code, weights and noise; three files of `size` bytes, the text of 4 MiB at most."""
    (root / "src").mkdir(parents=True)
    (root / "src" / "train.py").write_text("print('training')\n" * 50)
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "weights.bin").write_bytes(weights("bf16", size))
    (root / "noise.bin").write_bytes(noise(size))
    (root / "table.csv").write_bytes(text(min(size, 4 * MIB)))
    (root / "latest").symlink_to("weights.bin")
    os.link(root / "src" / "train.py", root / "linked.py")
    for path in root.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return root


def saved(field: Field, original: Path) -> str:
    """A snapshot of a folder of this computer; its id."""
    repository = field.repository()
    place = places.of_sources(load(), [str(original)])
    return snapshots.take(repository, place.host, place.scope(), place.state, snapshots.Options(), ignore).snapshot.id


def flow_run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a flow to its end on this thread."""
    return asyncio.run(work)


class Seen:
    """One flow run as the API knows it."""

    def __init__(self, run: FlowRun, tasks: list[TaskRun], artifacts: list[Artifact], logs: list[str]) -> None:
        self.run = run
        self.tasks = {task.name: task for task in tasks}
        self.artifacts = {artifact.key: artifact for artifact in artifacts if artifact.key}
        self.logs = logs

    @property
    def state(self) -> str:
        return self.run.state_name or ""

    @property
    def message(self) -> str:
        return (self.run.state.message or "") if self.run.state is not None else ""


def newest(name: str) -> Seen:
    """The newest run whose name begins with `name`, once all of its tasks have told how they ended."""
    end = time.monotonic() + LIMIT
    while True:
        seen = asyncio.run(_read(name))
        open_tasks = [task for task in seen.tasks.values() if task.state is None or not task.state.is_final()]
        if seen.run.state is not None and seen.run.state.is_final() and not open_tasks:
            return seen
        assert time.monotonic() < end, f"{name}: {seen.state}, {[task.name for task in open_tasks]}"


async def _read(name: str) -> Seen:
    async with get_client() as client:
        runs = await client.read_flow_runs(limit=50, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        run = next(run for run in runs if run.name.startswith(name))
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        tasks = await client.read_task_runs(flow_run_filter=chosen)
        artifacts = await client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])))
        logs = await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)
        return Seen(run, tasks, artifacts, [log.message for log in logs])

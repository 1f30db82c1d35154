"""A worker that takes one flow run and ends with it. What it may do is in its environment and its arguments; see flows.host_worker.

python -m flows.run_once POOL QUEUE NAME
"""

from __future__ import annotations

import shlex
import sys
import warnings
from typing import Any

import anyio


def main(pool: str, queue: str, name: str) -> None:
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

    class Configuration(ProcessJobConfiguration):
        """Starts the engine of flow runs at once: the code is installed, so there is no workspace to be looked for by another process."""

        def prepare_for_flow_run(self, *arguments: Any, **more: Any) -> None:
            self.command = shlex.join([sys.executable, "-m", "prefect.engine"])
            super().prepare_for_flow_run(*arguments, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two workers of one type

        class Worker(ProcessWorker):
            job_configuration = Configuration

    async def work() -> None:
        worker = Worker(work_pool_name=pool, work_queues=[queue], limit=1, name=name, create_pool_if_not_found=False)
        await worker.start(run_once=True)

    anyio.run(work)


if __name__ == "__main__":
    main(*sys.argv[1:])

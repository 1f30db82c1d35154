"""A worker that takes one flow run and ends with it. What it may do is in its environment and its arguments; see flows.host_worker.

python -m flows.run_once POOL QUEUE NAME
"""

from __future__ import annotations

import sys

import anyio


def main(pool: str, queue: str, name: str) -> None:
    from prefect.workers.process import ProcessWorker

    async def work() -> None:
        worker = ProcessWorker(work_pool_name=pool, work_queues=[queue], limit=1, name=name, create_pool_if_not_found=False)
        await worker.start(run_once=True)

    anyio.run(work)


if __name__ == "__main__":
    main(*sys.argv[1:])

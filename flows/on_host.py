"""One job on a rented host as a flow run there. The run's only parameter is a name: the job itself, with keys and grants, comes over
the SSH connection and a socket of the host (torpor.remote.jobsocket), and the result goes back that way. Prefect sees stages alone.
"""

from __future__ import annotations

import asyncio
import os
import threading

from prefect import flow

from flows import steps
from flows.on_host_words import SOCKET
from tasks import parts
from torpor.remote.jobsocket import Visit

PATIENCE = 60.0  # seconds from the end of the connection to the end of this process, whatever it is at


def _leave(visit: Visit, over: threading.Event) -> None:
    """Nothing of a job outlives its connection by much: its worker may have no other way to end it."""
    visit.wait_for_end()
    if not over.wait(PATIENCE):
        os._exit(1)


@flow(name="host-job", task_runner=steps.THREADS, persist_result=False)
async def host_job(job: str) -> None:
    """Do one job of torpor's on the machine that this runs on. Started by torpor alone, which holds the job.

    Args:
        job: Name of the job.
    """
    os.chdir(os.path.expanduser("~"))  # where commands over SSH run: a machine's paths may be relative to it
    visit = await asyncio.to_thread(Visit, os.environ.get(SOCKET, ""), job)
    over = threading.Event()
    threading.Thread(target=_leave, args=(visit, over), daemon=True).start()
    try:
        part = parts.Part(visit)
        work, stages = parts.of(part)
        watching = steps.follow(part, stages)
        try:
            result = await steps.job(part, work.submit(part), watching)
        except BaseException as error:
            visit.fail(parts.told(error, visit))
            raise
        visit.finish(result)
    finally:
        over.set()
        await asyncio.to_thread(visit.close)

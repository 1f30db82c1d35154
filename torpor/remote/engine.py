"""Which part of the engine does which job."""

from __future__ import annotations

from torpor.events import Listener
from torpor.jobs import CheckJob, Job, ProbeJob, RestoreJob, Result, SnapshotJob


def run(job: Job, listen: Listener) -> Result:
    """Do a job in this process. Imports only the part of the engine that it needs."""
    if isinstance(job, SnapshotJob):
        from torpor.hibernate import run as hibernate

        return hibernate.run(job, listen)
    if isinstance(job, RestoreJob):
        from torpor.wake import run as wake

        return wake.run(job, listen)
    if isinstance(job, CheckJob):
        from torpor.hibernate import check

        return check.run(job)
    if isinstance(job, ProbeJob):
        from torpor.hibernate import probe

        return probe.run(job)
    raise TypeError(f"no engine for {type(job).__name__}")

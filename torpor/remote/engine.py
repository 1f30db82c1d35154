"""Which part of the engine does which job."""

from __future__ import annotations

import errno

from torpor.errors import HostFailed, NoSpace, TorporError
from torpor.events import Listener
from torpor.jobs import CheckJob, Granter, Job, PreviewJob, ProbeJob, RestoreJob, Result, SnapshotJob, place_of


def run(job: Job, listen: Listener, ask: Granter | None = None) -> Result:
    """Do a job in this process. `ask` gets it more grants while it runs. Raises `TorporError`, also for what the system refuses."""
    try:
        return _run(job, listen, ask)
    except OSError as error:
        raise _refused(error) from error


def _refused(error: OSError) -> TorporError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = f"The disk is full{place_of(error)}."
        return NoSpace(full, safe="The snapshots in the store are untouched.", remedy="Free space, then run it again.")
    return HostFailed(
        f"The system refused a step of the job{place_of(error)}: {error.strerror or error}.",
        safe="The snapshots in the store are untouched; nothing was destroyed.",
        remedy="See to the cause, then run the command again: it goes on from there.",
    )


def _run(job: Job, listen: Listener, ask: Granter | None) -> Result:
    """Imports only the part of the engine that the job needs."""
    if isinstance(job, SnapshotJob):
        from torpor.hibernate import run as hibernate

        return hibernate.run(job, listen, ask)
    if isinstance(job, RestoreJob):
        from torpor.wake import run as wake

        return wake.run(job, listen, ask)
    if isinstance(job, CheckJob):
        from torpor.hibernate import check

        return check.run(job)
    if isinstance(job, ProbeJob):
        from torpor.hibernate import probe

        return probe.run(job)
    if isinstance(job, PreviewJob):
        from torpor.hibernate import preview

        return preview.run(job, listen)
    raise TypeError(f"no engine for {type(job).__name__}")

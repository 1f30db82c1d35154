"""What this host remembers of a workspace: answered before a snapshot, so that the control side knows lineage and parent."""

from __future__ import annotations

from torpor.jobs import ProbeJob, ProbeResult
from torpor.workspace import journal
from torpor.workspace.record import open_record
from torpor.workspace.state import State, workspace_id


def run(job: ProbeJob) -> ProbeResult:
    """Lineage and snapshot of the record, and the dead attempts whose packs are journaled."""
    state = State(job.state)
    rental = state.rental()
    workspace = workspace_id(job.repository, job.scope.roots)
    lineage = snapshot = None
    ticket = b""
    record = open_record(state.record(workspace))
    if record is not None:
        if record.footer.rental == rental:
            lineage, ticket, snapshot = record.footer.lineage, record.footer.ticket, record.footer.snapshot
        record.close()
    dead: list[str] = []
    for found, path in state.unfinished(workspace):
        read = journal.read(path)
        if read is not None and read[1]:
            dead += (found, read[0].snapshot)
            if lineage is None:
                lineage, ticket = read[0].lineage, read[0].ticket
    return ProbeResult(rental=rental, lineage=lineage, ticket=ticket, snapshot=snapshot, continues=sorted(set(dead)))

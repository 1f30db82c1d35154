"""What a run that did not complete leaves in its log: whether the machine still runs, and what was rented and left."""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from torpor.clock import SYSTEM
from torpor.control import leases
from torpor.control.places import ground
from torpor.machines.table import is_machine, open_machine
from torpor.settings import load


def say_what_runs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A worker calls hooks by keyword, so the names of the arguments matter."""
    address = flow_run.parameters.get("machine") or flow_run.parameters.get("on")
    settings, logger = load(), flow_run_logger(flow_run, flow)
    for record in leases.orphans(settings, SYSTEM):
        what = record.address or f"A machine of the kind {record.kind}"
        logger.warning("%s was rented and not handed over: it may go on costing. Run torpor sweep, which ends it.", what)
    if isinstance(address, str) and is_machine(address):
        status = open_machine(address, ground(settings)).status()
        logger.warning("The run is %s; %s is %s.", (state.name or "over").lower(), address, status.state)

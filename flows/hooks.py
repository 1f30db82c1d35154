"""What a run that did not complete leaves in its log: whether the machine still runs."""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from torpor.control.places import ground
from torpor.machines.table import is_machine, open_machine
from torpor.settings import load


def say_what_runs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A worker calls hooks by keyword, so the names of the arguments matter."""
    address = flow_run.parameters.get("machine") or flow_run.parameters.get("on")
    if isinstance(address, str) and is_machine(address):
        status = open_machine(address, ground(load())).status()
        flow_run_logger(flow_run, flow).warning("The run is %s; %s is %s.", (state.name or "over").lower(), address, status.state)

"""Making machines and destroying them."""

from __future__ import annotations

import os
from pathlib import Path

from prefect import task

from tasks.policy import POLICY
from tasks.session import Session
from tasks.stages import completed
from torpor.control import destroy as control
from torpor.control import places
from torpor.format.manifest import Receipt
from torpor.machines.base import Status
from torpor.machines.table import open_machine


def fresh_address(machines: Path) -> str:
    """`local:wake-N` with the first N that nobody has; its folder is made, so that of two runs each gets its own."""
    machines.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = 1
    while True:
        try:
            os.mkdir(machines / f"wake-{number}")
        except FileExistsError:
            number += 1
        else:
            return f"local:wake-{number}"


@task(name="provision", task_run_name="provision", **POLICY)
def provision(session: Session, address: str) -> str:
    """Make the machine, or adopt the one that runs under this address; the run works on it from now on."""
    with session.step("provision"):
        settings = session.repository.settings
        status = open_machine(address, places.ground(settings)).create()
        session.enter(places.of_machine(settings, address))
    return completed("provision", f"{status.address} is {status.state}", status.address)


@task(name="destroy", task_run_name="destroy", **POLICY)
def destroy(session: Session, receipt: Receipt) -> Status:
    """Destroy the machine, on a fresh receipt and on nothing else."""
    with session.step("destroy"):
        status = control.destroy(session.repository, session.machine, receipt)
    return completed("destroy", f"{status.address} is {status.state}", status)

"""Making machines and destroying them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from prefect import task

from tasks.policy import ONCE, POLICY
from tasks.session import Session
from tasks.stages import completed
from torpor.clock import SYSTEM
from torpor.control import destroy as control
from torpor.control import leases, places
from torpor.control import provision as provisioning
from torpor.control.provision import Demand, Limits, Provisioned
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
        if leases.claim(settings, address, SYSTEM):
            session.note(f"{address} was under the lease of another wake. It is yours now: nothing but a proof ends it.")
        status = open_machine(address, places.ground(settings)).create()
        session.enter(places.of_machine(settings, address))
    return completed("provision", f"{status.address} is {status.state}", status.address)


@task(name="rent", task_run_name="rent", **ONCE)
def rent(session: Session, demand: Demand, limits: Limits) -> Provisioned:
    """Rent the best offer that boots; the run works on that machine from now on. Never tried again blindly: it costs money."""
    with session.step("rent"):
        settings = session.repository.settings
        made = session.made = provisioning.provision(settings, demand.wish, demand.market(), limits, session.hear_here, pause=session.pause)
        try:
            session.check()  # of a run that was cancelled nobody waits for this task
            session.enter(places.of_machine(settings, made.machine.address))
        except BaseException as error:
            give_up(session, made, error)
            raise
    text = f"{made.machine.address}, {made.offer.gpu or 'CPU'}, ${made.offer.price:.3f}/h, after {made.seconds:.0f} s"
    return completed("rent", text, made)


@task(name="bootstrap", task_run_name="bootstrap", **POLICY)
def bootstrap(session: Session) -> float:
    """Put torpor on the machine, if it is not there yet; seconds that it took."""
    with session.step("bootstrap"):
        place = session.place
        ready = place.prepare(session.hear_here)
        if place.far is not None:
            session.enter(msgspec.structs.replace(place, state=place.far.state))
    return completed("bootstrap", ready.text, ready.seconds)


@task(name="hand over", task_run_name="hand over", **POLICY)
def hand_over(session: Session, made: Provisioned) -> str:
    """Give the machine to whoever asked for it: from now on nothing but a proof ends it."""
    with session.step("hand over"):
        provisioning.keep(session.repository.settings, made)
    return completed("hand over", f"{made.machine.address} is yours", made.machine.address)


def give_up(session: Session, made: Provisioned, error: BaseException) -> bool:
    """End a machine that was rented and is not to be kept, because of an error: it says so, if the machine may go on costing. Whether it
    is gone."""
    left = provisioning.fail(session.repository.settings, made, getattr(error, "what", "") or type(error).__name__)
    session.made = None
    if left:
        session.warn(left)
    else:
        session.note(f"{made.machine.address} was destroyed again: nothing is left that costs.")
    leases.tell(error, left)
    return not left


@task(name="destroy", task_run_name="destroy", **POLICY)
def destroy(session: Session, receipt: Receipt) -> Status:
    """Destroy the machine, on a fresh receipt and on nothing else."""
    with session.step("destroy"):
        place = session.place
        status = control.destroy(session.repository, session.machine, receipt, place.roots if place.far is None else ())
    if status.detail:
        session.warn(f"{status.address}: {status.detail}.")
    return completed("destroy", f"{status.address} is {status.state}", status)

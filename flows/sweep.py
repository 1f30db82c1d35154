"""Sweep: find and end what a crash left: machines that were rented and never handed over."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec
from prefect import flow, get_run_logger

from tasks import artifacts
from torpor.clock import SYSTEM
from torpor.control import leases
from torpor.control.leases import Found
from torpor.errors import MachineError
from torpor.machines.table import providers
from torpor.settings import load


@flow(name="sweep", flow_run_name="sweep", persist_result=False)
async def sweep(provider: Literal["", "vast", "gce"] = "", dry_run: bool = False) -> dict[str, Any]:
    """End every machine that torpor rented and that was never handed over to anybody, once its lease is out or its maker gone.

    Args:
        provider: Look there alone; empty: wherever there is an account.
        dry_run: Say what would be ended; end nothing.
    """
    found = await asyncio.to_thread(_sweep, provider, dry_run)
    logger = get_run_logger()
    for one in found:
        logger.log(40 if one.done == "failed" else 20, "%s %s: %s", one.address, one.done, one.why)
    await artifacts.table("sweep", [{"machine": one.address, "done": one.done, "why": one.why} for one in found], "what was left")
    failed = [one for one in found if one.done == "failed"]
    if failed:
        raise MachineError(
            f"{len(failed)} machines could not be ended and may go on costing: {', '.join(one.address for one in failed)}.",
            safe="Nothing that was handed over was touched.",
            remedy="Look at the provider's own page, then run sweep again.",
        )
    return {"machines": [msgspec.to_builtins(one) for one in found], "dry_run": dry_run}


def _sweep(provider: str, dry_run: bool) -> list[Found]:
    settings = load()
    found = list(leases.sweep(settings, SYSTEM, dry_run=dry_run, kinds=(provider,) if provider else ()))
    leases.check_asked(settings, found, [provider] if provider else providers())
    return found

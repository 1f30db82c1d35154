"""Replicate: one snapshot on N machines at once, in the time of one. One that fails does not fail the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from flows import steps, waking
from flows.hooks import say_what_runs
from tasks import artifacts
from torpor.control import fallback, leases
from torpor.control.provision import BOOT, LEASE, Demand, Limits
from torpor.control.restores import Options
from torpor.errors import HostFailed, Interrupted, TorporError, UsageError
from torpor.jobs import PATIENCE
from torpor.plan.offers import GB, Wish
from torpor.settings import load

MIB = 1024 * 1024
MOST = 32  # machines of one run: each has some threads here


@flow(
    name="replicate",
    flow_run_name="replicate {snapshot}",
    task_runner=ThreadPoolTaskRunner(max_workers=5 * MOST),  # type: ignore[arg-type]
    persist_result=False,
    on_failure=[say_what_runs],
    on_crashed=[say_what_runs],
    on_cancellation=[say_what_runs],
)
async def replicate(
    snapshot: str = "latest",
    on: Sequence[str] = (),
    count: int = 0,
    gpu: str = "",
    gpus: int = 1,
    region: str = "",
    max_price: float = 0.0,
    provider: Literal["", "vast", "gce"] = "",
    interruptible: bool = False,
    disk_gb: int = 0,
    min_down_mbps: int = 0,
    spend: float = 0.0,
    boot_seconds: steps.Boot = int(BOOT),
    lease_seconds: steps.Lease = int(LEASE),
    after: str = "",
    after_seconds: steps.Some = 600,
    storage: str | None = None,
    mode: Literal["new", "merge", "replace"] = "new",
    owners: Literal["numbers", "names", "none"] = "numbers",
    setuid: bool = False,
    memory_mib: int = 512,
    rate: int = 0,
    patience: float = PATIENCE,
    tune_network: bool = False,
    runner: steps.Runner = "ssh",
) -> dict[str, Any]:
    """Wake one snapshot on several machines at once. Each downloads by itself; the others go on when one fails.

    Args:
        snapshot: Id of the snapshot, the beginning of one, or "latest".
        on: Addresses of machines, made if they are not there.
        count: How many machines to rent, besides those.
        gpu: Which GPU to rent, such as "RTX 4090"; empty: any.
        gpus: How many GPUs each; 0 rents machines without one.
        region: A country such as US, or eu, na, asia; empty: anywhere.
        max_price: Dollars an hour that each may cost at most; 0: no limit.
        provider: Whom to rent from; empty: whoever there is an account for.
        interruptible: Rent machines that can be taken away at any time, which is cheaper.
        disk_gb: Size of each disk; 0: what the snapshot needs, and a fifth more.
        min_down_mbps: Megabits a second that each must be able to download at least.
        spend: Dollars that each may cost before it is handed over; then it is destroyed. 0: no limit.
        boot_seconds: How long a machine may take to boot before the next offer is taken.
        lease_seconds: How long all may take before a machine is destroyed again.
        after: A command that each machine runs once everything is there.
        after_seconds: How long that command may take.
        storage: URL of the repository; without it TORPOR_STORAGE of the process that runs the flow.
        mode: new: the workspace must be empty. merge: files that differ are written, others stay. replace: others are removed.
        owners: Who owns the files: the same numbers, the same names, or whoever restores them.
        setuid: Give setuid and setgid bits back.
        memory_mib: Memory that the engine on each machine may use, in MiB.
        rate: Bytes a second that each may receive at most; 0: no limit.
        patience: Seconds for which a store that does not answer is tried again.
        tune_network: Set each machine's kernel for long and fast links, as far as it lets itself be.
        runner: How the machine does its work: over ssh, or as a worker of the Prefect pool gpu, seen there task by task (docs/gpu-pool.md).
    """
    began = time.monotonic()
    machines = list(dict.fromkeys(on))
    if not 0 < len(machines) + count <= MOST or count < 0:
        raise UsageError(
            f"{len(machines) + count} machines were asked for.", safe="Nothing was changed.", remedy=f"Name or rent one to {MOST}."
        )
    settings = load(storage=storage)
    repository, wanted = await asyncio.to_thread(fallback.find, settings, snapshot, get_run_logger().warning)
    options = Options(
        mode=mode, owners=owners, setuid=setuid, memory=memory_mib * MIB, rate=rate, patience=patience, tune=tune_network
    )  # fmt: skip
    limits = Limits(boot=boot_seconds, lease=lease_seconds)
    demand = None
    if count:
        size = await asyncio.to_thread(waking.sizes, repository, wanted)
        wish = Wish(
            gpu=gpu, gpus=gpus, region=region, max_price=max_price, interruptible=interruptible,
            disk=disk_gb * GB or size.disk, down=min_down_mbps * 1e6, fetch=size.stored, spend=spend,
        )  # fmt: skip
        demand = Demand(settings, wish, (provider,) if provider else ())

    async def one(name: str, on: str) -> dict[str, Any]:
        asked = waking.Asked(
            on=on, demand=None if on else demand, limits=limits, options=options, after=after,
            after_seconds=after_seconds, runner=runner,
        )  # fmt: skip
        async with steps.session_on(repository, name=name) as session:
            return await waking.wake_one(session, wanted, asked)

    names = [*machines, *(f"rented-{number + 1}" for number in range(count))]
    works = [one(name, name if number < len(machines) else "") for number, name in enumerate(names)]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    result = report(wanted, names, outcomes, time.monotonic() - began)
    await artifacts.table("replicate", artifacts.replicated(result), f"{wanted} on {len(names)} machines")
    return result


def report(snapshot: str, names: Sequence[str], outcomes: Sequence[dict[str, Any] | BaseException], seconds: float) -> dict[str, Any]:
    """Each machine's result or failure, in the order they were asked for. Raises if there is no machine that is whole, or on a stop."""
    machines: list[dict[str, Any]] = []
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, TorporError) and not isinstance(outcome, Interrupted):
            machines.append({"machine": name, "ok": False, "failure": outcome.as_dict()})
        elif isinstance(outcome, BaseException):
            leases.tell(outcome, _kept(outcomes))
            raise outcome
        else:
            machines.append({"ok": True, **outcome})
    whole = [one for one in machines if one["ok"]]
    if not whole:
        first = next(outcome for outcome in outcomes if isinstance(outcome, TorporError))
        raise HostFailed(f"None of {len(names)} machines is whole. The first: {first.what}", safe=first.safe, remedy=first.remedy)
    failed = len(machines) - len(whole)
    return {"snapshot": snapshot, "machines": machines, "whole": len(whole), "failed": failed, "seconds": round(seconds, 3)}


def _kept(outcomes: Sequence[dict[str, Any] | BaseException]) -> str:
    """In words, the machines of a run that was stopped which are whole, and were rented: they stay."""
    rented = [str(outcome["machine"]) for outcome in outcomes if isinstance(outcome, dict) and outcome.get("lease")]
    return f"Whole and handed over before that, so they run on and cost: {', '.join(rented)}." if rented else ""

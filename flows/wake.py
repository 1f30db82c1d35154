"""Wake: provision → bootstrap → download → decompress → extract, on another machine."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from prefect import flow, get_run_logger

from flows import steps, waking
from flows.hooks import say_what_runs
from tasks import artifacts
from torpor.control import fallback
from torpor.control.provision import BOOT, LEASE, Demand, Limits
from torpor.control.restores import Options
from torpor.jobs import PATIENCE
from torpor.plan.offers import GB, Wish
from torpor.settings import load

MIB = 1024 * 1024


@flow(
    name="wake",
    flow_run_name="wake {snapshot}",
    task_runner=steps.THREADS,
    persist_result=False,
    on_failure=[say_what_runs],
    on_crashed=[say_what_runs],
    on_cancellation=[say_what_runs],
)
async def wake(
    snapshot: str = "latest",
    on: str | None = None,
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
    """Wake a snapshot on a machine: make the machine, and bring the workspace back. It is usable before it is complete.

    Args:
        snapshot: Id of the snapshot, the beginning of one, or "latest".
        on: Address of a machine, such as local:NAME or ssh://user@host:port/path. Without it, one is rented if a GPU, a region, a price
            or a provider is given, else a new local machine is made.
        gpu: Which GPU to rent, such as "RTX 4090"; empty: any.
        gpus: How many GPUs; 0 rents a machine without one.
        region: A country such as US, or eu, na, asia; empty: anywhere.
        max_price: Dollars an hour that the machine may cost at most; 0: no limit.
        provider: Whom to rent from; empty: whoever there is an account for.
        interruptible: Rent one that can be taken away at any time, which is cheaper.
        disk_gb: Size of its disk; 0: what the snapshot needs, and a fifth more.
        min_down_mbps: Megabits a second that it must be able to download at least.
        spend: Dollars that it may cost before it is handed over; then it is destroyed. 0: no limit.
        boot_seconds: How long a machine may take to boot before the next offer is taken.
        lease_seconds: How long all may take before it is destroyed again.
        after: A command that the machine runs once everything is there, such as one that starts a server.
        after_seconds: How long that command may take.
        storage: URL of the repository; without it TORPOR_STORAGE of the process that runs the flow.
        mode: new: the workspace must be empty. merge: files that differ are written, others stay. replace: others are removed.
        owners: Who owns the files: the same numbers, the same names, or whoever restores them.
        setuid: Give setuid and setgid bits back.
        memory_mib: Memory that the engine on the machine may use, in MiB.
        rate: Bytes a second that it may receive at most; 0: no limit.
        patience: Seconds for which a store that does not answer is tried again.
        tune_network: Set the machine's kernel for long and fast links, as far as it lets itself be.
        runner: How the machine does its work: over ssh, or as a worker of the Prefect pool gpu, seen there task by task (docs/gpu-pool.md).
    """
    settings = load(storage=storage)
    repository, wanted = await asyncio.to_thread(fallback.find, settings, snapshot, get_run_logger().warning)
    options = Options(
        mode=mode, owners=owners, setuid=setuid, memory=memory_mib * MIB, rate=rate, patience=patience, tune=tune_network
    )  # fmt: skip
    demand = None
    if not on and (gpu or region or max_price or provider or gpus == 0):
        size = await asyncio.to_thread(waking.sizes, repository, wanted)
        wish = Wish(
            gpu=gpu, gpus=gpus, region=region, max_price=max_price, interruptible=interruptible,
            disk=disk_gb * GB or size.disk, down=min_down_mbps * 1e6, fetch=size.stored, spend=spend,
        )  # fmt: skip
        demand = Demand(settings, wish, (provider,) if provider else ())
    limits = Limits(boot=boot_seconds, lease=lease_seconds)
    asked = waking.Asked(
        on=on or "", demand=demand, limits=limits, options=options, after=after,
        after_seconds=after_seconds, runner=runner,
    )  # fmt: skip
    async with steps.session_on(repository) as session:
        result = await waking.wake_one(session, wanted, asked)
        await artifacts.table("wake", artifacts.woken(result), f"{wanted} on {result['machine']}")
    return result

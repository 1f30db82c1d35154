"""A folder as a store for a host elsewhere: how much slower is it through the gateway than when the folder is mounted there?

    ./dev bench gateway [--threads N …] [--count N] [--rounds N] [--folder PATH] [--save NAME]

A process like a host's puts packs of 32 MiB and reads them in ranges of 8 MiB, by a grant of the folder itself (`file:`) and by one of
a gateway on loopback, in turn. MB a second, and CPU seconds a GB of the host's side and of the gateway's. Over SSH the tunnel is the
limit (docs/machines.md), so what this shows is that the gateway is not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from benchmarks.measure import MIB, median, options, save, scratch, table
from torpor.jobs import Grant
from torpor.remote.gateway_store import served
from torpor.storage.base import Store
from torpor.storage.grants import join
from torpor.storage.local import LocalStore
from torpor.storage.transfer import Transfer
from torpor.testing.tunnels import straight

PUT, GET = 32 * MIB, 8 * MIB
SNAPSHOT = "20260801T120000000-0a1b2c3d"


def _cpu() -> float:
    now = os.times()
    return now.user + now.system


def _child(threads: int, count: int) -> None:
    """The host: a grant on standard input; what it took on standard output."""
    grant = msgspec.json.decode(sys.stdin.buffer.readline(), type=Grant)
    body = memoryview(os.urandom(PUT // 4))
    digest = blake3(bytes(body) * 4).digest()
    names = [f"{SNAPSHOT}/89abcdef-{number}" for number in range(count)]
    spaces = [memoryview(bytearray(GET)) for _ in range(count)]
    with Transfer(grant) as transfer, ThreadPoolExecutor(threads) as pool:

        def read(number: int) -> None:
            for start in range(0, PUT, GET):
                transfer.get_into(names[number], start, spaces[number])

        figures = []
        for action in (lambda number: transfer.put(names[number], [body] * 4, digest), read):
            before, began = _cpu(), time.perf_counter()
            list(pool.map(action, range(count)))
            if action is not read:
                transfer.sync(names)
            figures.append({"seconds": time.perf_counter() - began, "cpu": _cpu() - before})
    print(json.dumps(figures))


def _measure(store: Store, threads: int, count: int) -> list[dict[str, float]]:
    names = [f"packs/{SNAPSHOT}/89abcdef-{number}" for number in range(count)]
    grant = join(store.grant_put(f"packs/{SNAPSHOT}/", 0, names), store.grant_get(names, 0))
    before = _cpu()
    command = [sys.executable, "-m", "benchmarks.bench_gateway", "--child", str(threads), str(count)]
    done = subprocess.run(command, input=msgspec.json.encode(grant) + b"\n", stdout=subprocess.PIPE, check=True)
    figures: list[dict[str, float]] = json.loads(done.stdout)
    size = count * PUT / 1e9
    own = (_cpu() - before) / (2 * size)
    store.delete(names)
    return [{"mb_s": size / one["seconds"] * 1000, "cpu": one["cpu"] / size, "gateway_cpu": own} for one in figures]


def _all(chosen: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    inner = LocalStore(str(folder / "store"))
    with served(inner, straight) as tunnelled:
        for threads in chosen.threads:
            seen: dict[str, list[list[dict[str, float]]]] = {"file": [], "gateway": []}
            for _ in range(chosen.rounds):
                seen["file"].append(_measure(inner, threads, chosen.count))
                seen["gateway"].append(_measure(tunnelled, threads, chosen.count))
            for place, verb in enumerate(("put", "get")):
                found = {
                    way: {key: median([one[place][key] for one in rounds]) for key in rounds[0][place]} for way, rounds in seen.items()
                }
                ratio = found["gateway"]["mb_s"] / found["file"]["mb_s"]
                rows.append({"verb": verb, "threads": threads, "ratio": ratio, **found})
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        _child(int(sys.argv[2]), int(sys.argv[3]))
        return
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--count", type=int, default=32, help="packs a round")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with scratch(chosen.folder) as folder:
        data = _all(chosen, folder)
    rows = [
        [row["verb"], str(row["threads"]), f"{row['file']['mb_s']:.0f}", f"{row['gateway']['mb_s']:.0f}", f"{row['ratio']:.2f}",
         f"{row['file']['cpu']:.2f}", f"{row['gateway']['cpu']:.2f}", f"{row['gateway']['gateway_cpu']:.2f}"]
        for row in data
    ]  # fmt: skip
    head = ["", "threads", "file MB/s", "gateway MB/s", "ratio", "file CPU s/GB", "host CPU s/GB", "gateway CPU s/GB, both ways"]
    print(json.dumps(data) if chosen.json else table(head, rows))
    if chosen.save:
        save(f"gateway-{chosen.save}", {"rows": data})


if __name__ == "__main__":
    main()

"""Which HTTP client moves packs best? PUT of 32 MiB from four buffers, ranged GET of 8 MiB into a buffer, over loopback.

    ./dev bench http [--clients NAME …] [--threads N …] [--rounds N] [--save NAME]

Each figure is from a process of its own that talks to a server in another one, with TLS and without: MB a second, CPU seconds of the
client a GB, its peak memory. `import`: until the first answer, less what Python takes. Clients that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.http_clients import CLIENTS, installed
from benchmarks.measure import MIB, median, options, save, scratch, size_of, table
from torpor.testing.tls import certificate

PUT, GET = 32 * MIB, 8 * MIB


@contextmanager
def _server(pem: str) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.http_server", *([pem] if pem else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http{'s' if pem else ''}://127.0.0.1:{int(process.stdout.readline())}/x"
        process.stdin.close()


def _child(name: str, url: str, pem: str, verb: str, threads: int, count: int) -> None:
    """In a process of its own: `count` requests by each of `threads`; prints what that took."""
    began = time.perf_counter()
    first = CLIENTS[name](url, pem)
    first.get_into(0, memoryview(bytearray(1)))
    ready = time.perf_counter() - began
    clients = [first, *(CLIENTS[name](url, pem) for _ in range(threads - 1))]
    body = memoryview(os.urandom(PUT // 4))
    spaces = [memoryview(bytearray(GET)) for _ in clients] if verb == "get" else []
    barrier = threading.Barrier(threads + 1)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(count):
            if verb == "put":
                clients[number].put([body] * 4)
            else:
                clients[number].get_into(MIB, spaces[number])

    crew = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in crew:
        thread.start()
    before = os.times()
    barrier.wait()
    began = time.perf_counter()
    for thread in crew:
        thread.join()
    wall, after = time.perf_counter() - began, os.times()
    size = threads * count * (PUT if verb == "put" else GET) / 1e9
    cpu = after.user + after.system - before.user - before.system
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"mb_s": size / wall * 1000, "cpu": cpu / size, "rss": peak, "ready": ready}))


def _measure(name: str, url: str, pem: str, verb: str, threads: int, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_http", "--child", name, url, pem, verb, str(threads), str(max(1, count // threads))]
    environment = {**os.environ, **({"SSL_CERT_FILE": pem} if pem else {})}
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _installed_size(name: str) -> int:
    total = 0
    for package in CLIENTS[name].packages:
        found = find_spec(package)
        if found is not None and found.origin is not None:
            place = Path(found.origin)
            total += size_of(place.parent) if place.name == "__init__.py" else place.stat().st_size
    return total


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, url, pem, verb, threads, count = sys.argv[2:]
        _child(name, url, pem, verb, int(threads), int(count))
        return
    parser = options(__doc__, folder=False)
    parser.add_argument("--clients", nargs="+", default=installed(), choices=list(CLIENTS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=32, help="requests a round, all threads together")
    chosen = parser.parse_args()
    data = _all(chosen)
    rows = [
        [row["client"], row["tls"] or "-", row["verb"], str(row["threads"]), f"{row['mb_s']:.0f}", f"{row['cpu']:.2f}",
         f"{row['rss'] / MIB:.0f}", f"{row['ready'] * 1000:.0f}", f"{_installed_size(row['client']) / MIB:.1f}"]
        for row in data
    ]  # fmt: skip
    head = ["client", "", "", "threads", "MB/s", "CPU s/GB", "MiB", "import ms", "installed MiB"]
    print(json.dumps(data) if chosen.json else table(head, rows))
    if chosen.save:
        save(f"http-{chosen.save}", {"rows": data})


def _all(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = []
    with scratch() as folder:
        for pem in ("", str(certificate(folder / "server.pem"))):
            with _server(pem) as url:
                for verb in ("put", "get"):
                    for threads in chosen.threads:
                        seen: dict[str, list[dict[str, float]]] = {name: [] for name in chosen.clients}
                        for _ in range(chosen.rounds):  # in turn, so that a busy moment of the machine hits them all
                            for name, found in seen.items():
                                found.append(_measure(name, url, pem, verb, threads, chosen.count))
                        for name, found in seen.items():
                            middle = {key: median([one[key] for one in found]) for key in found[0]}
                            data.append({"client": name, "tls": "TLS" if pem else "", "verb": verb, "threads": threads, **middle})
    return data


if __name__ == "__main__":
    main()

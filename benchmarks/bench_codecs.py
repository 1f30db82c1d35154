"""How fast codecs are and how far they shrink what: GB/s of raw bytes by one and by two threads, on chunks of 4 MiB.

./dev bench codecs            a table, in less than half a minute
./dev bench codecs --json     the same as JSON
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from collections.abc import Callable

from torpor.codecs.base import NO_HINT, Codec, Hint, Scratch
from torpor.codecs.choose import Chooser
from torpor.codecs.table import ROWS, by_id
from torpor.testing import samples

SECONDS = 0.12  # of one measurement
ROUNDS = 2  # the better one counts
WIDTHS = {"bf16": 2, "fp16": 2, "fp32": 4}

Result = dict[str, str | float | None]


def speed(make: Callable[[], Callable[[], object]], size: int, threads: int) -> float:
    """GB/s of `size` bytes a call, by `threads` threads that each call what `make` made for them."""
    calls = [make() for _ in range(threads)]
    calls[0]()
    began = time.perf_counter()
    calls[0]()
    times = max(2, int(SECONDS / (time.perf_counter() - began)))
    best = float("inf")
    for _ in range(ROUNDS):
        barrier = threading.Barrier(threads + 1)

        def run(call: Callable[[], object], barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for _ in range(times):
                call()

        workers = [threading.Thread(target=run, args=(call,)) for call in calls]
        for worker in workers:
            worker.start()
        barrier.wait()
        began = time.perf_counter()
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - began)
    return size * threads * times / best / 1e9


def measure(codec: Codec, raw: bytes, hint: Hint) -> Result:
    found = codec.encode(raw, Scratch(), hint)
    if found is None:
        return {"ratio": 1.0, "encode_1": speed(lambda: _encoder(codec, raw, hint), len(raw), 1)}
    coded = bytes(found)

    def decoder() -> Callable[[], object]:
        scratch, out = Scratch(), memoryview(bytearray(len(raw)))
        return lambda: codec.decode(coded, len(raw), out, scratch)

    result: Result = {"ratio": len(raw) / len(coded)}
    for threads in (1, 2):
        result[f"encode_{threads}"] = speed(lambda: _encoder(codec, raw, hint), len(raw), threads)
        result[f"decode_{threads}"] = speed(decoder, len(raw), threads)
    return result


def _encoder(codec: Codec, raw: bytes, hint: Hint) -> Callable[[], object]:
    scratch = Scratch()
    return lambda: codec.encode(raw, scratch, hint)


def results() -> list[Result]:
    """One a kind of data and codec; `chosen`: torpor takes this codec for it; `choose_us`: microseconds to find that out."""
    found: list[Result] = []
    for kind, raw in samples.kinds().items():
        chosen, _ = Chooser().choose(raw)
        began = time.perf_counter()
        Chooser().choose(raw)
        look = (time.perf_counter() - began) * 1e6
        for row in ROWS:
            if row.name == "raw":
                continue  # a copy
            hint = Hint(WIDTHS[kind]) if row.name == "planes" and kind in WIDTHS else NO_HINT
            mark: Result = {"data": kind, "codec": row.name, "chosen": float(row.name == chosen.name), "choose_us": look}
            found.append(mark | measure(by_id(row.id), raw, hint))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    found = results()
    if arguments.json:
        machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
        print(json.dumps({"benchmark": "codecs", "machine": machine, "results": found}, indent=1))
        return
    columns = ("ratio", "encode_1", "encode_2", "decode_1", "decode_2")
    print(f"{'data':8}{'codec':9}" + "".join(f"{column:>10}" for column in columns) + "   GB/s; * chosen by torpor")
    for result in found:
        cells = "".join(f"{result[column]:10.2f}" if column in result else f"{'-':>10}" for column in columns)
        print(f"{result['data']:8}{result['codec']:9}{cells} {'*' if result['chosen'] else ''}")


if __name__ == "__main__":
    main()

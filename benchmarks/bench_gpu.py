"""What a GPU does with planes of weights: the kernels alone, through the process that jobs use, and nvCOMP beside them.

./dev bench gpu [--mib N] [--seconds S] [--save NAME]    result: benchmarks/results/gpu-NAME.json

Without a GPU (or without CuPy) it says so and measures nothing. Where a part fails, the others go on; why is in the
result and on standard error, and the exit code is 1.
"""

from __future__ import annotations

import json
import platform
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.gpu_kernels import Figures, Resident
from benchmarks.gpu_nvcomp import CODECS, Nvcomp
from benchmarks.measure import options, save
from torpor.bench import gpu
from torpor.bench.compute import WIDTHS
from torpor.codecs.base import Hint
from torpor.codecs.planes import worth
from torpor.format.version import CHUNK_MAX
from torpor.gpu import detect
from torpor.gpu.coder import Device
from torpor.gpu.tryout import tryout
from torpor.testing.samples import MIB, weights

DTYPES = ("bf16", "fp16", "fp32")
FAILED: list[Exception] = []  # what went wrong in this run


def kernels(device: Device, mib: int, seconds: float) -> dict[str, Figures]:
    """By kind of weights: GB/s on the device, ratio, and what other decoders say."""
    return {dtype: attempt(partial(_kernels, device, dtype, mib, seconds)) for dtype in DTYPES}


def _kernels(device: Device, dtype: str, mib: int, seconds: float) -> Figures:
    return Resident(device, weights(dtype, mib * MIB), WIDTHS[dtype]).measure(seconds)


def process(seconds: float) -> dict[str, Figures]:
    """From memory to memory: copies alone, then chunks both ways by kind of weights."""
    with tryout() as found:
        to, back = found.copies(CHUNK_MAX, seconds)
        figures: dict[str, Figures] = {"copies": {"to_gb_s": to, "from_gb_s": back}}
        for dtype in DTYPES:
            raw = weights(dtype, CHUNK_MAX)
            _, wanted = worth(memoryview(raw), Hint(WIDTHS[dtype]))
            encode, coded = found.encode(raw, WIDTHS[dtype], sum(want << plane for plane, want in enumerate(wanted)), seconds)
            decode, decoded = found.decode(coded[0], len(raw), seconds)
            figures[dtype] = {
                "encode_gb_s": encode, "decode_gb_s": decode, "ratio": len(raw) / len(coded[0]), "came_back": {*decoded} == {raw},
            }  # fmt: skip
    return figures


def nvcomp(mib: int, seconds: float) -> dict[str, Figures]:
    """Whole weights by nvCOMP's codecs, and a plane's CPU-made frames by its decoder."""
    made = Nvcomp()
    figures: dict[str, Figures] = {"version": {"nvcomp": made.version}}
    for dtype in DTYPES:
        raw = weights(dtype, mib * MIB)
        for name, kind in CODECS:
            figures[f"{dtype}, {name} {kind}".strip()] = attempt(partial(made.codec, name, kind, raw, seconds))
    words = np.frombuffer(weights("bf16", mib * MIB), "<u2")
    figures["exponents, the CPU's zstd frames"] = attempt(lambda: made.cpu_frames((words >> 7).astype(np.uint8).tobytes(), seconds))
    return figures


def attempt(part: Callable[[], Figures]) -> Figures:
    """What a part found. If it failed, why: here in short, in whole on standard error, and in the exit code."""
    try:
        return part()
    except Exception as error:  # noqa: BLE001 - time on a GPU is short: the other parts go on, and this one is told of
        traceback.print_exc()
        FAILED.append(error)
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def attempt_all(part: Callable[[], dict[str, Figures]]) -> dict[str, Figures]:
    """Likewise for many figures, if not even the first can be had."""
    found: dict[str, Figures] = {}

    def whole() -> Figures:
        found.update(part())
        return {}

    lost = attempt(whole)
    return {"all": lost} if lost else found


def facts() -> dict[str, str]:
    """The GPU, its driver, CuPy and the CUDA it found."""
    import cupy  # type: ignore[import-not-found]

    runtime = cupy.cuda.runtime
    driver = Path("/proc/driver/nvidia/version")
    return {
        "gpu": ", ".join(gpu.names()) or str(runtime.getDeviceProperties(0)["name"]),
        "driver": driver.read_text(encoding="utf-8").splitlines()[0] if driver.exists() else "",
        "cupy": str(cupy.__version__),
        "cuda": str(runtime.runtimeGetVersion()),
        "host": platform.machine(),
    }


def main() -> int:
    parser = options(__doc__, folder=False)
    parser.add_argument("--mib", type=int, default=256, help="weights that lie on the device")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long one figure is measured")
    given = parser.parse_args()
    if not detect.present():
        print("no GPU with CuPy here: nothing was measured")
        return 0
    from torpor.gpu.device import Cuda

    data: dict[str, object] = {
        "facts": facts(),
        "process": attempt_all(lambda: process(given.seconds)),  # first: it takes its part of the free memory
        "kernels": attempt_all(lambda: kernels(Cuda(), given.mib, given.seconds)),
        "nvcomp": attempt_all(lambda: nvcomp(given.mib, given.seconds)),
    }
    print(json.dumps(data, indent=None if given.json else 1))
    if given.save:
        save(f"gpu-{given.save}", data)
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())

"""The kernels alone, on data that lies on the device: planes to zstd frames and back, checked by libzstd and by the `zstd` command."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from torpor.codecs.entropy import KEEP
from torpor.codecs.planes import FRAME as FRAME_BYTES
from torpor.codecs.planes_layout import aligned
from torpor.format.zstd import decompress
from torpor.gpu.coder import SLOTS, Device, blocks_for
from torpor.gpu.records import ALIGN, BLOCK_BYTES, BLOCK_MAX, FRAME, OK, PLAN_BYTES, THREADS

CHECKED = 64  # frames that zstd decodes
Figures = dict[str, float | int | str | bool]


class Resident:
    """`raw`: elements of `width` bytes on the device. Planes that are not worth it stay as they are split."""

    def __init__(self, device: Device, raw: bytes, width: int) -> None:
        self._device = device
        self._raw = raw
        self._width = width
        self._count = count = len(raw) // width
        self._elements = device.upload(np.frombuffer(raw, np.uint8))
        self._planes = device.room(width * aligned(count))
        self._each = [self._planes[k * aligned(count) :][:count] for k in range(width)]
        self._split()
        self._worth = [k for k in range(width) if _shrinks(device.download(self._each[k][: 1 << 20]))]
        rows = [(k * aligned(count) + at, 0, 0, min(FRAME_BYTES, count - at)) for k in self._worth for at in range(0, count, FRAME_BYTES)]
        self._frames = np.array(rows, FRAME)
        self._per_frame = FRAME_BYTES // BLOCK_MAX
        frames = len(rows)
        self._capacity = aligned(len(self._worth) * count + frames * (9 + ALIGN + 3 * self._per_frame))
        self._coded = device.room(self._capacity)
        self._blocks = device.room(frames * max(self._per_frame * PLAN_BYTES, SLOTS * BLOCK_BYTES))
        self._table = device.upload(self._frames)
        self._offsets, self._sizes, self._total = device.room(8 * frames), device.room(4 * frames), device.room(8)
        self._states = device.room(4 * frames)

    def _split(self) -> None:
        self._device.launch(f"split{self._width}", blocks_for(len(self._raw)), [self._elements, np.uint64(self._count), *self._each])

    def encode(self) -> None:
        device, frames, per_frame = self._device, len(self._frames), np.uint32(self._per_frame)
        self._split()
        device.clear(self._coded)
        device.launch("plan_blocks", frames * self._per_frame, [self._planes, self._table, per_frame, self._blocks])
        device.launch("place_blocks", 1, [self._blocks, np.uint64(frames), per_frame, self._offsets, self._sizes, self._total])
        device.launch("write_blocks", frames * self._per_frame, [self._planes, self._blocks, self._coded, np.uint64(self._capacity)])

    def ready(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """After `encode`: turn the table round for `decode`. Offsets and sizes of the frames."""
        offsets = self._device.download(self._offsets).view(np.uint64)
        sizes = self._device.download(self._sizes).view(np.uint32)
        back = self._frames.copy()
        back["from"], back["to"], back["size"] = offsets, self._frames["from"], sizes
        self._back = self._device.upload(back)
        return offsets, sizes

    def decode(self) -> None:
        device, frames = self._device, len(self._frames)
        places = [
            self._back,
            np.uint64(frames),
            np.uint64(self._width * aligned(self._count)),
            np.uint32(SLOTS),
            self._blocks,
            self._states,
        ]
        device.launch("read_frames", -(-frames // THREADS["read_frames"]), [self._coded, np.uint64(self._capacity), *places])
        device.launch("decode_blocks", frames * SLOTS, [self._coded, self._blocks, self._planes, self._states])
        device.launch(f"merge{self._width}", blocks_for(len(self._raw)), [*self._each, np.uint64(self._count), self._elements])

    def measure(self, seconds: float) -> Figures:
        """GB/s of raw bytes both ways, and whether every byte came back."""
        encode = self._speed(self.encode, seconds)
        offsets, sizes = self.ready()
        coded = self._device.download(self._coded).tobytes()
        frames = [coded[start : start + size] for start, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]
        planes = self._device.download(self._planes).tobytes()
        plain = [planes[row["from"] : row["from"] + row["raw"]] for row in self._frames]
        for k in self._worth:
            self._device.clear(self._each[k])
        self._device.clear(self._elements)
        decode = self._speed(self.decode, seconds)
        states = self._device.download(self._states).view(np.uint32)
        stored = self._count * (self._width - len(self._worth))
        return {
            "raw_bytes": len(self._raw), "coded_planes": len(self._worth), "ratio": len(self._raw) / (stored + int(sizes.sum())),
            "encode_gb_s": encode, "decode_gb_s": decode, "frames": len(frames), "frames_not_ok": int((states != OK).sum()),
            "came_back": self._device.download(self._elements).tobytes() == self._raw,
            "libzstd_agrees": all(decompress(frame, len(raw)) == raw for frame, raw in zip(frames[:CHECKED], plain, strict=False)),
            "zstd_command_agrees": _by_command(frames[:CHECKED]) == b"".join(plain[:CHECKED]) if shutil.which("zstd") else "no zstd here",
        }  # fmt: skip

    def _speed(self, call: Callable[[], None], seconds: float) -> float:
        def timed(times: int) -> float:
            began = time.perf_counter()
            for _ in range(times):
                call()
            self._device.wait(self._device.mark("work"))
            return time.perf_counter() - began

        timed(1)
        times = max(1, int(seconds / max(timed(1), 1e-6)))
        return len(self._raw) * times / min(timed(times) for _ in range(3)) / 1e9


def _by_command(frames: list[bytes]) -> bytes:
    return subprocess.run(["zstd", "-q", "-d", "-c"], input=b"".join(frames), check=True, capture_output=True, timeout=60).stdout


def _shrinks(plane: NDArray[np.uint8]) -> bool:
    """Whether its bytes carry so little that coding each by itself is worth it."""
    part = np.bincount(plane, minlength=256) / len(plane)
    part = part[part > 0]
    return bool(-(part * np.log2(part)).sum() / 8 < KEEP)

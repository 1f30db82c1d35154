"""Runs the kernels in order on a device: planes of floats, and planes as zstd frames of Huffman coded literals (docs/format.md §6).

A `Device` is a GPU (torpor/gpu/device.py), or a CPU that runs the same kernels in tests. All arrays are bytes on it. This module does one
plane or one row of frames at a time, for tests and to measure the kernels alone; `batches` is what jobs use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from torpor.gpu.records import ALIGN, BLOCK_BYTES, BLOCK_MAX, FRAME, PLAN_BYTES, THREADS

SLOTS = 8  # blocks looked for in a frame of 256 KiB: the CPU's encoder may cut it into smaller ones than 128 KiB
_GRID = 4096  # blocks of a kernel that strides: enough to fill any GPU

Array = Any  # of bytes, on the device
Event = Any
Argument = Any  # an `Array`, a numpy scalar of the kernel's own width, or None: no array
Stream = Literal["in", "work", "out"]


class Device(Protocol):
    """A device with three streams: copies to it, kernels, copies from it.

    What is given to one stream is done in order; streams wait for each other only where `after` says so, and the host where it waits.
    The first four calls are for one piece of work at a time: they use the stream of kernels, and `download` waits for it.
    """

    def zeros(self, size: int) -> Array:
        """Bytes that begin at a multiple of 16."""

    def upload(self, data: NDArray[Any]) -> Array:
        """A copy of the array's bytes, likewise."""

    def download(self, array: Array) -> NDArray[np.uint8]: ...

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        """Run a kernel of THREADS[kernel] threads a block."""

    def room(self, size: int) -> Array:
        """Bytes that begin at a multiple of 16, with anything in them; `array[a:b]` is a part of them."""

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Memory of the host that copies may use while it goes on."""

    def register(self, memory: NDArray[np.uint8]) -> None:
        """Let copies use this memory of the host likewise, if that is possible."""

    def free(self) -> int:
        """Bytes of memory that nobody uses."""

    def clear(self, array: Array) -> None:
        """Zeros, on the stream of kernels."""

    def copy_in(self, array: Array, host: NDArray[np.uint8]) -> None:
        """As many bytes of the host as the array has. Neither may change until it is done."""

    def copy_out(self, host: NDArray[np.uint8], array: Array) -> None: ...

    def mark(self, stream: Stream) -> Event:
        """An event: everything that was given to the stream so far is done."""

    def after(self, stream: Stream, event: Event) -> None:
        """What the stream is given from now on waits for the event."""

    def done(self, event: Event) -> bool: ...

    def wait(self, event: Event) -> None:
        """Let the host wait. Raises what went wrong on the device until then."""


class Frames(NamedTuple):
    """`data[offsets[j] : offsets[j] + sizes[j]]` is frame `j`; zeros lie between them."""

    data: Array
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint32]
    total: int  # bytes of `data` in use


def split(device: Device, elements: Array, width: int, count: int, wanted: Sequence[bool]) -> list[Array]:
    """Planes of `count` elements of 2 or 4 bytes; None for those not `wanted`."""
    planes = [device.zeros(count) if want else None for want in wanted]
    if len(planes) != width or width not in (2, 4):
        raise ValueError("elements have 2 or 4 bytes, and as many planes")
    device.launch(f"split{width}", blocks_for(count * width), [elements, np.uint64(count), *planes])
    return planes


def merge(device: Device, planes: Sequence[Array], count: int) -> Array:
    """The elements that 2 or 4 planes were split from. A plane begins at a multiple of 16."""
    width = len(planes)
    if width not in (2, 4):
        raise ValueError("elements have 2 or 4 planes")
    elements = device.zeros(count * width)
    device.launch(f"merge{width}", blocks_for(count * width), [*planes, np.uint64(count), elements])
    return elements


def encode(device: Device, plane: Array, count: int, frame: int) -> Frames:
    """`count` bytes, 1 or more, as frames of `frame` raw bytes, each at a multiple of 16."""
    frames, per_frame = -(-count // frame), -(-frame // BLOCK_MAX)
    if count < 1 or not 0 < frame <= 1 << 22:
        raise ValueError("there is a byte at least, and a frame has at most 4 MiB")
    blocks = frames * per_frame
    capacity = _aligned(count + frames * (9 + ALIGN) + 3 * blocks)
    plans, data = device.zeros(blocks * PLAN_BYTES), device.zeros(capacity)
    offsets, sizes, total = device.zeros(8 * frames), device.zeros(4 * frames), device.zeros(8)
    table = np.zeros(frames, FRAME)
    table["from"] = np.arange(frames, dtype=np.uint64) * frame
    table["raw"] = np.minimum(count - table["from"], frame)
    device.launch("plan_blocks", blocks, [plane, device.upload(table), np.uint32(per_frame), plans])
    device.launch("place_blocks", 1, [plans, np.uint64(frames), np.uint32(per_frame), offsets, sizes, total])
    device.launch("write_blocks", blocks, [plane, plans, data, np.uint64(capacity)])
    used = int(device.download(total).view(np.uint64)[0])
    return Frames(data, device.download(offsets).view(np.uint64), device.download(sizes).view(np.uint32), used)


def decode(
    device: Device, coded: Array, size: int, frames: NDArray[np.void], out_size: int, slots: int = SLOTS
) -> tuple[Array, NDArray[np.uint32]]:
    """The raw bytes of `frames` (records `FRAME`), and OK, NOT_OURS or DAMAGED for each.

    Every frame lies within the first `size` bytes of `coded`, and every frame's place within `out_size`, or it is DAMAGED. Where a frame
    is not OK its place holds anything. `slots`: the most blocks of a frame; a frame with more is NOT_OURS.
    """
    if frames.dtype != FRAME or slots < 1:
        raise ValueError("frames are records of the type FRAME, with a slot or more for each")
    count = len(frames)
    out, status = device.zeros(out_size), device.zeros(4 * count)
    if count == 0:
        return out, np.zeros(0, np.uint32)
    blocks = device.zeros(count * slots * BLOCK_BYTES)
    places = [device.upload(frames), np.uint64(count), np.uint64(out_size), np.uint32(slots), blocks, status]
    device.launch("read_frames", -(-count // THREADS["read_frames"]), [coded, np.uint64(size), *places])
    device.launch("decode_blocks", count * slots, [coded, blocks, out, status])
    return out, device.download(status).view(np.uint32)


def blocks_for(size: int) -> int:
    """Blocks of a kernel that splits or merges `size` bytes, 16 a thread."""
    return max(1, min(_GRID, -(-size // (16 * THREADS["split2"]))))


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN

"""nvCOMP beside the kernels: ANS and zstd on the same bytes, and its decoder on the CPU's zstd frames.

Needs `nvidia-nvcomp-cu12` or `-cu13`, 6.0 or newer. ANS streams are read by the version that wrote them and by no CPU:
torpor stores none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torpor.codecs.planes import FRAME as FRAME_BYTES
from torpor.codecs.zstd import HUFFMAN, options
from torpor.format.zstd import lib  # type: ignore[attr-defined]

Figures = dict[str, float | int | str | bool]

CODECS = (("ANS", "|u1"), ("ANS", "<f2"), ("ANS", "<f4"), ("Zstd", ""))
CHUNK = 1 << 20  # bytes that are coded by themselves
_BOUND = 1.5  # of what a chunk may grow to, with room to spare
_ALIGN = 256


class Nvcomp:
    """One GPU and one stream. Raises `ImportError` without nvCOMP or CuPy."""

    def __init__(self) -> None:
        self._cupy: Any = import_module("cupy")
        self._nvcomp: Any = import_module("nvidia.nvcomp")
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self.version = str(self._nvcomp.__version__)

    def codec(self, name: str, dtype: str, raw: bytes, seconds: float) -> Figures:
        """Ratio, and GB/s both ways, of `raw` in chunks on the device."""
        cupy, ptr = self._cupy, self._stream.ptr
        with self._stream:
            kind = {"<f2": cupy.float16, "<f4": cupy.float32}.get(dtype, cupy.uint8)
            source = cupy.frombuffer(raw, cupy.uint8).copy()
            sizes = [min(CHUNK, len(raw) - at) for at in range(0, len(raw), CHUNK)]
            offsets = [CHUNK * number for number in range(len(sizes))]
            stride = -(-int(CHUNK * _BOUND) // _ALIGN) * _ALIGN
            room, back = cupy.empty(stride * len(sizes), cupy.uint8), cupy.zeros(len(raw), cupy.uint8)
            codec = self._codec(name, dtype)
            chunks = self._nvcomp.as_arrays(source.view(kind), offsets, sizes, cuda_stream=ptr)
            places = self._nvcomp.as_arrays(room, [stride * n for n in range(len(sizes))], [stride] * len(sizes), cuda_stream=ptr)
            encode = self._speed(lambda: codec.encode(chunks, out=places), len(raw), seconds)
            coded = [int(size) for size in codec.encode(chunks, out=places).buffer_sizes]
            packed = self._nvcomp.as_arrays(room, [stride * n for n in range(len(sizes))], coded, cuda_stream=ptr)
            decode = self._decode(codec, packed, back, offsets, sizes, seconds)
            came_back = bytes(back.get()) == raw
        return {"ratio": len(raw) / sum(coded), "encode_gb_s": encode, "decode_gb_s": decode, "came_back": came_back}

    def cpu_frames(self, plane: bytes, seconds: float) -> Figures:
        """zstd frames that the CPU made of a plane, decoded by nvCOMP and compared bit for bit."""
        cupy, ptr = self._cupy, self._stream.ptr
        frames = [lib.compress(plane[at : at + FRAME_BYTES], options=options(HUFFMAN)) for at in range(0, len(plane), FRAME_BYTES)]
        data, starts = bytearray(), list[int]()
        for frame in frames:
            data += bytes(-len(data) % _ALIGN)
            starts.append(len(data))
            data += frame
        sizes = [min(FRAME_BYTES, len(plane) - at) for at in range(0, len(plane), FRAME_BYTES)]
        with self._stream:
            coded, back = cupy.frombuffer(bytes(data), cupy.uint8).copy(), cupy.zeros(len(plane), cupy.uint8)
            packed = self._nvcomp.as_arrays(coded, starts, [len(frame) for frame in frames], cuda_stream=ptr)
            offsets = [FRAME_BYTES * number for number in range(len(sizes))]
            speed = self._decode(self._codec("Zstd", ""), packed, back, offsets, sizes, seconds)
            same = bytes(back.get()) == plane
        return {"frames": len(frames), "decode_gb_s": speed, "came_back": same}

    def _codec(self, name: str, dtype: str) -> Any:
        more = {"data_type": dtype} if dtype else {}
        raw = self._nvcomp.BitstreamKind.RAW
        device = self._cupy.cuda.Device().id
        return self._nvcomp.Codec(algorithm=name, bitstream_kind=raw, device_id=device, cuda_stream=self._stream.ptr, **more)

    def _decode(self, codec: Any, packed: Any, back: Any, offsets: list[int], sizes: list[int], seconds: float) -> float:
        places = self._nvcomp.as_arrays(back, offsets, sizes, cuda_stream=self._stream.ptr)
        config = codec.decompression_config(codec.compression_config(sizes))  # else it reads the heads back, and waits
        return self._speed(lambda: codec.decode(packed, out=places, decompression_config=config), sum(sizes), seconds)

    def _speed(self, call: Callable[[], object], size: int, seconds: float) -> float:
        def timed(times: int) -> float:
            began = time.perf_counter()
            for _ in range(times):
                call()
            self._stream.synchronize()
            return time.perf_counter() - began

        timed(1)
        times = max(1, int(seconds / max(timed(1), 1e-6)))
        return size * times / min(timed(times) for _ in range(3)) / 1e9

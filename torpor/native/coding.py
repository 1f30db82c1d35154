"""Codes and decodes a chunk in one compiled call, with the zstd that Python's own module brings; `native()` is None without either.

That module is a shared object with libzstd inside, or linked to one, and its functions can be looked up by name like any other's. Only
functions of zstd's stable interface are taken. Where they are hidden (zstd built into the interpreter), Python's module does the work.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module

from torpor.format.zstd import lib  # type: ignore[attr-defined]
from torpor.native import kernels

Buffer = bytes | bytearray | memoryview

STORED = None  # in place of the frames of a plane that is stored

_MODULE = "_zstd" if sys.version_info >= (3, 14) else "backports.zstd._zstd"
_pointer, _size, _uint = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
_SIGNATURES: dict[str, tuple[type, list[type]]] = {
    "torpor_decode_frame": (ctypes.c_int, [_pointer, _pointer, _pointer, _size, _pointer, _size]),
    "torpor_encode_frame": (_size, [_pointer, _pointer, _pointer, _size, _pointer, _size]),
    "torpor_decode_planes": (
        ctypes.c_int,
        [_pointer, _pointer, _pointer, _size, _pointer, _uint, _uint, _size, _size, _pointer, _pointer],
    ),
    "torpor_encode_planes": (
        _size,
        [_pointer, _pointer, _pointer, _uint, _size, _size, _pointer, _size, _pointer, _pointer, _size, _pointer],
    ),
}
# Holds the interpreter's lock: it takes microseconds, and to get the lock back may take longer.
_COUNT = ctypes.PYFUNCTYPE(None, _pointer, _size, _uint, _uint, _pointer)
# `struct zstd` of coding.c, in its order.
_TABLE = (
    *("ZSTD_decompressDCtx", "ZSTD_getFrameContentSize", "ZSTD_findFrameCompressedSize"),
    *("ZSTD_compress2", "ZSTD_compressBound", "ZSTD_isError", "ZSTD_CCtx_reset"),
)
_CALLED: dict[str, tuple[type, list[type]]] = {
    "ZSTD_versionNumber": (_uint, []),
    "ZSTD_createDCtx": (_pointer, []),
    "ZSTD_freeDCtx": (_size, [_pointer]),
    "ZSTD_createCCtx": (_pointer, []),
    "ZSTD_freeCCtx": (_size, [_pointer]),
    "ZSTD_CCtx_setParameter": (_size, [_pointer, ctypes.c_int, ctypes.c_int]),
    "ZSTD_compressBound": (_size, [_size]),
    "ZSTD_isError": (_uint, [_size]),
}


class Native:
    """The compiled functions and zstd's."""

    def __init__(self, library: ctypes.CDLL, zstd: ctypes.CDLL) -> None:
        """Raises `AttributeError` if a function is missing."""
        _declare(library, _SIGNATURES)
        _declare(zstd, _CALLED)
        self.library, self.zstd = library, zstd
        addresses = [ctypes.cast(getattr(zstd, name), _pointer).value for name in _TABLE]
        self.table = (_pointer * len(addresses))(*addresses)

    def bound(self, length: int) -> int:
        """The most bytes that a frame of `length` bytes takes."""
        return int(self.zstd.ZSTD_compressBound(length))


class Contexts:
    """zstd's working memory of one thread: one context to decode, one to encode for each set of parameters.

    Freed with the object, and not at the interpreter's exit: a thread may still be inside a call then.
    """

    def __init__(self, native: Native) -> None:
        self._native = native
        self._decoder: int | None = None
        self._encoders: dict[tuple[tuple[int, int], ...], int] = {}

    def decoder(self) -> int:
        """Raises `MemoryError`."""
        if self._decoder is None:
            self._decoder = _made(self._native.zstd.ZSTD_createDCtx())
        return self._decoder

    def encoder(self, options: Mapping[int, int]) -> int | None:
        """A context with these parameters; None if zstd does not take one of them. Raises `MemoryError`."""
        key = tuple(options.items())
        if key not in self._encoders:
            zstd = self._native.zstd
            made = _made(zstd.ZSTD_createCCtx())
            if any(zstd.ZSTD_isError(zstd.ZSTD_CCtx_setParameter(made, *pair)) for pair in key):
                zstd.ZSTD_freeCCtx(made)
                return None
            self._encoders[key] = made
        return self._encoders[key]

    def __del__(self) -> None:
        zstd = self._native.zstd
        if self._decoder is not None:
            zstd.ZSTD_freeDCtx(self._decoder)
        for encoder in self._encoders.values():
            zstd.ZSTD_freeCCtx(encoder)


def native() -> Native | None:
    """What codes a chunk in one call; None where there is no compiled library, or no zstd that can be called from it."""
    library = kernels.library()
    return None if library is None else _native(library)


@cache
def _native(library: ctypes.CDLL) -> Native | None:
    try:
        found = Native(library, ctypes.CDLL(import_module(_MODULE).__file__))
    except (ImportError, OSError, AttributeError, TypeError):  # no module, no file of its own, or nothing to be seen in it
        return None
    # The same zstd as Python's, so that both make the same bytes.
    major, minor, patch = lib.zstd_version_info
    return found if found.zstd.ZSTD_versionNumber() == major * 10_000 + minor * 100 + patch else None


def decode_frame(native: Native, contexts: Contexts, frame: Buffer, out: memoryview) -> bool:
    """Decode exactly one frame, with its content size, that fills `out`; False for any other bytes: `out` may then hold anything."""
    if not len(frame) or not len(out):
        return False
    source, target = _Pinned(frame), _Pinned(out)
    call = native.library.torpor_decode_frame
    return bool(call(native.table, contexts.decoder(), source.address, len(frame), target.address, len(out)))


def encode_frame(native: Native, encoder: int, data: Buffer, out: memoryview) -> int:
    """Code `data` as one frame; its length, or 0 if that failed. `out` has at least `native.bound(len(data))` bytes."""
    if not len(data):
        return 0
    source, target = _Pinned(data), _Pinned(out)
    return int(native.library.torpor_encode_frame(native.table, encoder, source.address, len(data), target.address, len(out)))


def decode_planes(
    native: Native,
    contexts: Contexts,
    coded: Buffer,
    planes: Sequence[Sequence[int] | None],
    offsets: Sequence[Sequence[int]],
    frame: int,
    scratch: memoryview,
    out: memoryview,
) -> bool:
    """Decode elements of as many bytes as there are `planes` into `out`; False for bytes that are not as a writer makes them.

    `planes`, `offsets`: lengths and places as a parsed layout has them, all within `coded`. `scratch`: `frame` bytes (fewer if there
    are fewer elements) for each plane of frames.
    """
    width = len(planes)
    count = len(out) // width
    spans = array("Q")
    framed = 0
    for plane, (lengths, starts) in enumerate(zip(planes, offsets, strict=True)):
        framed |= (lengths is not STORED) << plane
        for at, length in zip(starts, (count,) if lengths is None else lengths, strict=True):
            spans.extend((at, length))
    frames = -(-count // frame)
    if len(spans) != 2 * sum(frames if lengths is not STORED else 1 for lengths in planes):
        raise ValueError("the layout is another chunk's")
    if len(scratch) < framed.bit_count() * min(frame, count):
        raise ValueError("the scratch is too short")
    source, target, room = _Pinned(coded), _Pinned(out), _Pinned(scratch)
    return bool(
        native.library.torpor_decode_planes(
            native.table, contexts.decoder(), source.address, len(coded), spans.buffer_info()[0], width, framed, frame, count,
            room.address, target.address,
        )
    )  # fmt: skip


def encode_planes(
    native: Native, encoder: int, elements: memoryview, wanted: Sequence[bool], frame: int, limit: int, scratch: memoryview, out: memoryview
) -> tuple[int, tuple[tuple[int, ...] | None, ...]] | None:
    """Code elements of as many bytes as there are `wanted` planes: (length from the first plane on, the lengths of each plane's frames).

    A plane that is not `wanted`, or whose frames take more than `limit` bytes, is stored. None if nothing is left to code, or on failure.
    `scratch`: `frame` bytes, or as many as there are elements; `out` should have room for planes of `limit`, and a frame's bound.
    """
    width = len(wanted)
    count = len(elements) // width
    frames = -(-count // frame)
    if count < 1 or len(scratch) < min(frame, count):
        raise ValueError("no elements, or too little scratch")
    framed = _uint(sum(flag << plane for plane, flag in enumerate(wanted)))
    lengths = (ctypes.c_uint32 * (width * frames))()
    source, target, room = _Pinned(elements), _Pinned(out), _Pinned(scratch)
    size = native.library.torpor_encode_planes(
        native.table, encoder, source.address, width, count, frame, ctypes.byref(framed), limit, room.address, target.address, len(out),
        lengths,
    )  # fmt: skip
    if not size or not framed.value:
        return None
    rows = (tuple(lengths[plane * frames : (plane + 1) * frames]) for plane in range(width))
    return int(size), tuple(row if framed.value >> plane & 1 else STORED for plane, row in enumerate(rows))


def counts(data: bytes, width: int, lead: int, rotate: bool) -> list[list[int]] | None:
    """How often each byte stands at each place of elements of `width` bytes (1, 2 or 4), which begin after `lead` bytes.

    `rotate`: after each element was rotated left by one bit. None without the compiled library.
    """
    library = kernels.library()
    count = None if library is None else _counter(library)
    if count is None:
        return None
    held = _Pinned(data[lead:] if lead else data)
    found = (ctypes.c_uint32 * (256 * width))()
    count(held.address, max(len(data) - lead, 0) // width, width, rotate, found)
    return [found[256 * place : 256 * (place + 1)] for place in range(width)]


@cache
def _counter(library: ctypes.CDLL) -> Callable[..., None] | None:
    try:
        return _COUNT(("torpor_count", library))
    except AttributeError:
        return None


class _Pinned:
    """A buffer that stays where it is as long as this object does; an empty one is nowhere."""

    __slots__ = ("_held", "address")

    def __init__(self, buffer: Buffer) -> None:
        if isinstance(buffer, memoryview) and buffer.readonly:
            buffer = bytes(buffer)  # ctypes tells no address of these; what the engine codes and decodes is writable
        self._held: object = buffer
        self.address = 0
        if isinstance(buffer, bytes):
            self.address = ctypes.cast(ctypes.c_char_p(buffer), _pointer).value or 0
        elif buffer:
            held = ctypes.c_char.from_buffer(buffer)
            self._held, self.address = held, ctypes.addressof(held)


def _declare(library: ctypes.CDLL, signatures: Mapping[str, tuple[type, list[type]]]) -> None:
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result


def _made(context: int | None) -> int:
    if context is None:
        raise MemoryError("zstd has no memory for a context")
    return context

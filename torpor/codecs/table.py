"""All codecs, one row each, sorted by id. A codec's module is imported when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import msgspec

from torpor.codecs.base import Codec
from torpor.errors import Malformed, MissingDependency, UsageError
from torpor.format.version import CODEC_LZ4, CODEC_PLANES, CODEC_RAW, CODEC_ZSTD


class Row(msgspec.Struct, frozen=True):
    """`cls` of `module` implements the codec; `needs` is what pip installs for it (empty: nothing beyond torpor)."""

    id: int
    name: str
    module: str
    cls: str
    needs: str


ROWS = (
    Row(CODEC_RAW, "raw", "torpor.codecs.raw", "Raw", ""),
    Row(CODEC_ZSTD, "zstd", "torpor.codecs.zstd", "Zstd", "backports.zstd"),
    Row(CODEC_LZ4, "lz4", "torpor.codecs.lz4", "Lz4", "lz4"),
    Row(CODEC_PLANES, "planes", "torpor.codecs.planes", "Planes", "numpy"),
)


@cache
def by_id(id: int) -> Codec:
    """The codec that a chunk's row names. Raises `Malformed` for an id that no codec has, `MissingDependency`."""
    for row in ROWS:
        if row.id == id:
            return _load(row)
    raise Malformed(f"A chunk is coded with codec {id}, which this torpor does not know.", remedy="Install a newer torpor.")


@cache
def by_name(name: str) -> Codec:
    """The codec a person or a policy names. Raises `UsageError` for a name that no codec has, `MissingDependency`."""
    for row in ROWS:
        if row.name == name:
            return by_id(row.id)
    raise UsageError(f"There is no codec {name!r}.", remedy=f"Known are: {', '.join(row.name for row in ROWS)}.")


def _load(row: Row) -> Codec:
    try:
        codec: Codec = getattr(import_module(row.module), row.cls)()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"The codec {row.name} needs the Python package {error.name}, which is not installed.",
            safe="Nothing was written.",
            remedy=f"Run `pip install {row.needs}`.",
        ) from error
    return codec

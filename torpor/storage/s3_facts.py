"""What an answer of the S3 family tells of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.storage.base import Info

if TYPE_CHECKING:
    from torpor.storage.s3_place import Place


def info_of(place: Place, name: str, size: int, modified: float, etag: object) -> Info:
    """Times are cut to whole seconds, since not every answer has more."""
    digest = md5_of(etag) if place.digest == "md5" else b""
    return Info(name, size, modified // 1, "md5" if digest else "none", digest)


def md5_of(etag: object) -> bytes:
    """The MD5 that an ETag is; empty if it is something else, as after a write in parts."""
    text = str(etag).strip('"').lower()
    try:
        return bytes.fromhex(text) if len(text) == 32 else b""
    except ValueError:
        return b""


def date_of(answer: dict[str, Any]) -> float:
    """When it was written: a PUT's answer has no other time than its own."""
    from email.utils import parsedate_to_datetime

    if "LastModified" in answer:
        return float(answer["LastModified"].timestamp())
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date).timestamp() if date else 0.0

"""What the S3 emulator answers to a request that is signed well: objects, lists, deletes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.emulators.s3_auth import Wrong

if TYPE_CHECKING:
    from tests.emulators.s3 import S3Emulator

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
Headers = tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """`size`: of the body that a HEAD tells of."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    size: int | None = None


def error(wrong: Wrong, headers: Headers = ()) -> Answer:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{wrong.code}</Code><Message>{escape(wrong.message)}</Message></Error>"
    return Answer(wrong.status, (("Content-Type", "application/xml"), *headers), body.encode())


def of(emulator: S3Emulator, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
    """Do what is asked. Raises `Wrong`."""
    bucket, _, name = unquote(path).lstrip("/").partition("/")
    if not emulator.quirks.checksums and any(key.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) for key in headers):
        raise Wrong(400, "InvalidArgument", "Unsupported header")
    if bucket != emulator.bucket:
        raise Wrong(404, "NoSuchBucket")
    with emulator.lock:
        if not name:
            if method == "HEAD":
                return Answer(200)
            if method == "GET" and query.get("list-type") == "2":
                return _list(emulator, query)
            if method == "POST" and "delete" in query:
                return _delete_many(emulator, headers, body)
        elif not set(query) - {key for key in query if key.startswith("X-Amz-")} - {"x-id"}:
            if method == "PUT":
                return _put(emulator, name, headers, body)
            if method in ("GET", "HEAD"):
                return _get(emulator, name, headers)
            if method == "DELETE":
                emulator.objects.pop(name, None)
                return Answer(204)
    raise Wrong(501, "NotImplemented")


def _put(emulator: S3Emulator, name: str, headers: dict[str, str], body: bytes) -> Answer:
    from tests.emulators.s3 import Object

    _check_md5(headers, body)
    if "content-length" not in headers:
        raise Wrong(411, "MissingContentLength")
    if "if-none-match" in headers or "if-match" in headers:
        if emulator.quirks.conditional == "refused":
            raise Wrong(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
        if headers.get("if-none-match") != "*":
            raise Wrong(501, "NotImplemented")
        if emulator.quirks.conditional == "kept" and name in emulator.objects:
            raise Wrong(412, "PreconditionFailed")
    found = emulator.objects[name] = Object(body, emulator.now())
    return Answer(200, (("ETag", f'"{found.etag}"'),))


def _get(emulator: S3Emulator, name: str, headers: dict[str, str]) -> Answer:
    found = emulator.objects.get(name)
    if found is None:
        raise Wrong(404, "NoSuchKey")
    size = len(found.data)
    facts: Headers = (
        ("ETag", f'"{found.etag}"'),
        ("Last-Modified", formatdate(int(found.modified), usegmt=True)),
        ("Accept-Ranges", "bytes"),
        ("Content-Type", "binary/octet-stream"),
    )
    asked = _RANGE.fullmatch(headers.get("range", ""))
    if asked is None:
        return Answer(200, facts, found.data, size)
    start = int(asked[1])
    if start >= size:
        return error(Wrong(416, "InvalidRange"), (("Content-Range", f"bytes */{size}"),))
    end = min(size, int(asked[2]) + 1 if asked[2] else size)
    return Answer(206, (*facts, ("Content-Range", f"bytes {start}-{end - 1}/{size}")), found.data[start:end], end - start)


def _list(emulator: S3Emulator, query: dict[str, str]) -> Answer:
    if query.get("delimiter"):
        raise Wrong(501, "NotImplemented")
    prefix = query.get("prefix", "")
    after = base64.urlsafe_b64decode(query["continuation-token"]).decode() if "continuation-token" in query else ""
    names = [name for name in sorted(emulator.objects) if name.startswith(prefix) and name > after]
    page = names[: min(emulator.page, int(query.get("max-keys", 1000)))]
    lines = [f"<Name>{emulator.bucket}</Name><KeyCount>{len(page)}</KeyCount><EncodingType>url</EncodingType>"]
    if len(page) < len(names):
        token = base64.urlsafe_b64encode(page[-1].encode()).decode()
        following = f"<NextContinuationToken>{token}</NextContinuationToken>" if emulator.tokens else ""
        lines.append(f"<IsTruncated>true</IsTruncated>{following}")
    else:
        lines.append("<IsTruncated>false</IsTruncated>")
    for name in page:
        found = emulator.objects[name]
        lines.append(
            f"<Contents><Key>{quote(name)}</Key><LastModified>{_iso(found.modified)}</LastModified>"
            f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{len(found.data)}</Size></Contents>"
        )
    return _xml("ListBucketResult", "".join(lines))


def _delete_many(emulator: S3Emulator, headers: dict[str, str], body: bytes) -> Answer:
    if not _check_md5(headers, body) and not any(key.startswith("x-amz-checksum-") for key in headers):
        raise Wrong(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
    keys = [str(key.text) for key in ET.fromstring(body).iter() if key.tag.removeprefix(_NAMESPACE) == "Key"]
    if not 1 <= len(keys) <= 1000:
        raise Wrong(400, "MalformedXML")
    for name in keys:
        emulator.objects.pop(name, None)
    return _xml("DeleteResult", "")


def _check_md5(headers: dict[str, str], body: bytes) -> bool:
    """Whether the body came with its MD5; `Wrong` if with another."""
    if "content-md5" not in headers:
        return False
    try:
        digest = base64.b64decode(headers["content-md5"], validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise Wrong(400, "InvalidDigest")
    if digest != hashlib.md5(body, usedforsecurity=False).digest():
        raise Wrong(400, "BadDigest")
    return True


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".000Z"


def _xml(root: str, inner: str) -> Answer:
    body = f"<?xml version='1.0' encoding='UTF-8'?><{root} xmlns='{_NAMESPACE[1:-1]}'>{inner}</{root}>"
    return Answer(200, (("Content-Type", "application/xml"),), body.encode())

"""`file:` URLs and paths. A path's bytes survive as they are, UTF-8 or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torpor.errors import UsageError

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def file_url(path: str) -> str:
    """The URL of an absolute path; everything but letters, digits and `/ . _ - ~` is percent-encoded."""
    from urllib.parse import quote_from_bytes

    return "file:///" + quote_from_bytes(os.fsencode(path)).strip("/")


def file_path(url: str) -> str:
    """The absolute path of a `file:` URL. `UsageError` for another machine's, for a relative one, for one with a query."""
    from urllib.parse import unquote_to_bytes

    rest = url.removeprefix("file:")
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
        if host not in ("", "localhost"):
            raise UsageError(f"A file: URL cannot name another machine ({host!a}).", remedy="Write file:///path, with three slashes.")
    if not rest.startswith("/"):
        raise UsageError("A file: URL needs an absolute path.", remedy="Write file:///path, or the bare path.")
    if "?" in rest or "#" in rest:
        raise UsageError("A file: URL has no query and no fragment.", remedy="Write %3F for ? and %23 for #, or give the bare path.")
    path = unquote_to_bytes(rest)
    if b"\0" in path:
        raise UsageError("A path cannot hold a NUL.")
    return os.fsdecode(path)


def split(url: str, what: str, remedy: str, *, port: bool = False) -> SplitResult:
    """As `urlsplit`, with `UsageError` for what does not parse, such as an IPv6 address that is none. `what` it is; it is not repeated.

    `port`: it may have one.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        if port:
            _ = parts.port  # raises, too
    except ValueError:
        raise UsageError(f"{what} does not parse.", remedy=remedy) from None
    return parts


def folder_of(url: str) -> str:
    """The folder that the store at this URL is, if it is one; else nothing. A bare path is one."""
    if url.lower().startswith("file:"):
        try:
            return file_path("file:" + url[5:])
        except UsageError:
            return ""
    scheme, colon, _ = url.partition(":")
    if not url or (colon and "/" not in scheme and scheme[:1].isalpha()):
        return ""
    return os.path.abspath(os.path.expanduser(url))

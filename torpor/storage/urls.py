"""`file:` URLs and paths. A path's bytes survive as they are, UTF-8 or not."""

from __future__ import annotations

import os

from torpor.errors import UsageError


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

"""The stores there are, one row a URL scheme. A store's module, and what it needs, is imported when a URL asks for it."""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from torpor.access import Access
from torpor.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from torpor.storage.base import Store


class Row(NamedTuple):
    """`store` is a class with `from_url(url, access)`. `extra`: the optional dependency group that its module or `from_url` imports."""

    module: str
    store: str
    example: str
    extra: str = ""


ROWS = {
    "b2": Row("torpor.storage.b2", "B2Store", "b2://bucket/prefix", extra="b2"),
    "file": Row("torpor.storage.local", "LocalStore", "file:///path, or a bare path"),
    "gs": Row("torpor.storage.gcs", "GcsStore", "gs://bucket/prefix", extra="gcs"),
    "memory": Row("torpor.storage.memory", "MemoryStore", "memory:"),
    "r2": Row("torpor.storage.s3", "S3Store", "r2://bucket/prefix?endpoint=https://…", extra="s3"),
    "s3": Row("torpor.storage.s3", "S3Store", "s3://bucket/prefix, with ?endpoint=https://… for other services than AWS", extra="s3"),
    "wasabi": Row("torpor.storage.s3", "S3Store", "wasabi://bucket/prefix?region=…", extra="s3"),
}

_OF_TESTS = ("memory",)  # ends with its process, so that nobody is told to use it
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def open_store(url: str, access: Access | None = None) -> Store:
    """The store at a URL, or in the folder of a bare path (`~` is the home folder). Nothing is created before the first `put`.

    `access` holds the credentials that a store may need.

    `UsageError` for a URL that no row takes, `MissingDependency` with the install line if the row's extra is not installed.
    """
    if not url:
        raise UsageError("The storage URL is empty.", remedy=_remedy())
    found = _SCHEME.match(url)
    if found is None:
        from torpor.storage.urls import file_url

        if "/" in url and url.partition("/")[0].endswith(":"):  # such as a quotation mark before it: not repeated, it may hold a secret
            raise UsageError("The storage looks like a URL, and is none.", remedy=f"{_remedy()} A folder of that name: ./ before it.")
        return open_store(file_url(os.path.abspath(os.path.expanduser(url))))
    scheme = found[1].lower()
    row = ROWS.get(scheme)
    if row is None:
        raise UsageError(f"There is no storage of the kind {scheme}:.", remedy=_remedy())
    try:
        store: Store = getattr(import_module(row.module), row.store).from_url(scheme + url[len(scheme) :], access or Access())
    except ModuleNotFoundError as error:
        if not row.extra or (error.name or "").partition(".")[0] == "torpor":
            raise
        raise MissingDependency(
            f"Storage at {scheme}: needs the package {error.name}.", remedy=f'Run: pip install "torpor[{row.extra}]"'
        ) from error
    return store


def _remedy() -> str:
    return f"Write one of: {'; '.join(row.example for scheme, row in ROWS.items() if scheme not in _OF_TESTS)}."

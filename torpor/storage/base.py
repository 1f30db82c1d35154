"""The contract every store keeps, with the names, facts and errors that belong to it.

A store is a flat set of named objects, each written whole or not at all. Only the control side holds one. A host gets a
`jobs.Grant` from it and moves bytes with `torpor.storage.transfer`. The shipped suite `torpor.testing.store_suite` holds every
store to this page.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from torpor import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from torpor.jobs import Grant

    Data = Buffer | Sequence[Buffer]

NAME_MAX = 200
PACKS = "packs/"

_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*\Z")


class Missing(errors.NotFound):
    """The store has no object of that name."""


class Exists(errors.TorporError):
    """The name is taken, and the object there was left as it is."""


class BadName(errors.UsageError):
    """A name or prefix that no store takes; the message says why."""


class Refused(errors.StorageUnavailable):
    """The store answered, and said no. Asking again brings the same answer."""

    retryable = False


class NotGranted(Refused):
    """The host's grant does not cover this name."""


class GrantExpired(errors.StorageUnavailable):
    """The grant ran out; a fresh one helps."""


class Capabilities(NamedTuple):
    """What a store can do, as data. Callers ask here, never for a store's class.

    `conditional_put`: of several `put(if_absent=True)` at once just one wins; without it the store only looks before it writes.
    `digest`: the kind of digest that the store keeps of each object and shows in `Info` (a key of `format.index.DIGESTS`).
    `presign`: grants work from any machine; without it only from this one.
    `prefix_grants`: `grant_put` covers all names under the prefix; without it only the `names` it is given.
    `consistent_list`: `list` shows each `put` and `delete` that returned before it began.
    `provider`: whose prices and rules apply (docs/providers.md): "local", "memory", "aws", "r2", "wasabi", "b2", "gcs", or "s3" for
    an endpoint that nothing more is known of.
    """

    conditional_put: bool
    digest: str
    presign: bool
    prefix_grants: bool
    consistent_list: bool
    provider: str


class Info(NamedTuple):
    """One object. `size` in bytes; `modified` in seconds since 1970, by the store's clock; no `digest` if its kind is "none"."""

    name: str
    size: int
    modified: float
    digest_kind: str = "none"
    digest: bytes = b""


def is_name(name: str) -> bool:
    """Whether a store takes `name`."""
    return len(name) <= NAME_MAX and _NAME.match(name) is not None


def check_name(name: str) -> None:
    """Raise `BadName`, with the reason, unless every store can take `name` as it is."""
    if not is_name(name):
        raise BadName(f"{name[:250]!a} cannot be the name of an object: {_reason(name)}.")


def check_prefix(prefix: str) -> None:
    """Raise `BadName` unless some good name begins with `prefix`; the empty prefix stands for all names."""
    if not is_name(prefix + "x"):
        raise BadName(f"{prefix[:250]!a} cannot begin the name of an object: {_reason(prefix + 'x')}.")


def _reason(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > NAME_MAX:
        return f"it is longer than {NAME_MAX} characters"
    if name.startswith("/"):
        return "it begins with a slash, and names are relative"
    for part in name.split("/"):
        if not part:
            return "it has an empty component, which folders and buckets read differently"
        if part in (".", ".."):
            return f"it holds {part!r}, which leads to another place in a folder"
        if part.startswith("."):
            return "a component begins with a dot, which stores keep for their own files"
    return "only letters, digits and . _ - / mean the same in every folder, bucket and URL"


def check_range(name: str, size: int, start: int, length: int | None) -> int:
    """The end of a range of an object of that size. `Damaged` if it is not all there, `UsageError` if it is no range at all."""
    if start < 0 or (length is not None and length < 0):
        raise errors.UsageError(f"{length} bytes from {start} on are no range.")
    end = max(start, size) if length is None else start + length
    if end > size:
        raise errors.Damaged(
            f"Object {name} has {size} bytes, but bytes up to {end} were asked for.",
            remedy="Verify the snapshots that use it, and wake from another one or from a copy.",
        )
    return end


def parts_of(data: Data) -> list[memoryview]:
    """`data` as flat views of bytes, without copying and without empty ones."""
    try:
        views = [memoryview(data)]  # type: ignore[arg-type]
    except TypeError:
        views = [memoryview(part) for part in data]  # type: ignore[union-attr]
    return [view.cast("B") for view in views if view.nbytes]


class Store(ABC):
    """One repository's objects.

    Names: as `check_name` has them; every method raises `BadName` for others before it does anything else.
    Threads: all methods may be called from several threads at once.
    Errors: `StorageUnavailable` when the store did not answer (trying again can help), its subclass `Refused` when it said no,
    `NoSpace` when it is full. After an error it is unknown whether a `put` took effect, or which names of a `delete` are gone.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Opens the same objects again through `table.open_store`. Holds no secret."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @abstractmethod
    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        """Write one object, whole or not at all: a reader sees the old state or all of the new, at any moment.

        `data`: one buffer, or a sequence of buffers that are stored one after the other. An object of that name is replaced; with
        `if_absent` it stays as it is, and the call raises `Exists`. Durable on return, except under `packs/`, where `sync` makes
        it so.
        """

    @abstractmethod
    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`; None: to the end. `Missing` if there is no such object.

        A range that the object does not hold entirely raises `Damaged`: sizes are known before, so too few bytes mean a loss.
        """

    @abstractmethod
    def get_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` from `start` on. Errors as `get`; what `out` holds after one is undefined."""

    @abstractmethod
    def head(self, name: str) -> Info | None:
        """What is known of the object without reading it; None if there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Info]:
        """Every object whose name begins with `prefix` (any string, not only a folder), of all levels, ascending by name.

        Names that `check_name` refuses are not torpor's and are left out. Objects put or deleted meanwhile may show or not.
        A part of the store that cannot be read is an error, never a shorter list.
        """

    @abstractmethod
    def delete(self, names: Iterable[str]) -> int:
        """Remove objects, in no promised order. A name that is absent is no error: after an error, ask for the same names again.

        Returns how many names it was given, which are all absent now. Durable as `put` is.
        """

    @abstractmethod
    def sync(self) -> None:
        """Return once everything written to this store before, by any process of this machine, is durable."""

    @abstractmethod
    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        """Let a host write new objects under `prefix` (`packs/<snapshot>/`) until `expires` (seconds since 1970; 0: for ever).

        `names`: the objects it will write, in full. A store with `prefix_grants` ignores them; another covers these alone.
        A prefix that is not one folder below `packs/` raises `UsageError`. A store that cannot grant for so long ends the grant
        sooner, and its `expires` says when.
        """

    @abstractmethod
    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        """Let a host read these objects of `packs/`, named in full, until `expires`. Other names raise `UsageError`."""

    def end_grant(self, grant: Grant) -> None:
        """The host is done: take back what can be taken back before the grant ends by itself. Most stores can take back nothing."""
        return

    def revocation(self, grant: Grant) -> str:
        """What `revoke` needs to take this grant back, even in another process; no secret. Empty if it can't be taken back."""
        return ""

    def revoke(self, revocation: str) -> None:
        """`end_grant` for who has no grant, but what `revocation` said of it. What has ended, or is not known, is no error."""
        return

    def clean(self) -> int:
        """Remove what writers that died left behind at least a day ago, never an object; returns how many pieces.

        Most stores leave none.
        """
        return 0

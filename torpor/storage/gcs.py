"""A bucket of Google Cloud Storage as a store, through Google's own client. Hosts get V4 signed URLs."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

from torpor.errors import StorageUnavailable, UsageError
from torpor.storage.base import Capabilities, Info, Missing, Store, check_name, check_prefix, check_range, is_name, parts_of
from torpor.storage.gcs_client import PATIENCE, Client
from torpor.storage.gcs_errors import AS_IT_WAS, PastEnd, asking
from torpor.storage.gcs_place import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torpor.access import Access
    from torpor.clock import Clock
    from torpor.jobs import Grant
    from torpor.storage.base import Data
    from torpor.storage.gcs_place import Place

_CAPABILITIES = Capabilities(conditional_put=True, digest="md5", presign=True, prefix_grants=False, consistent_list=True, provider="gcs")
_BATCH = 100  # deletions a request; Google's limit
_PAGE = 1000
_LISTED = "items(name,size,timeCreated,md5Hash),nextPageToken"
_TRY = "torpor-try"  # of an object's own metadata: which put made it


class GcsStore(Store):
    """The objects of a bucket below a prefix. `patience`: seconds to go on trying; `clock` dates grants."""

    def __init__(self, place: Place, access: Access, clock: Clock | None = None, patience: float = PATIENCE) -> None:
        self._place = place
        self._client = Client(place, access, patience)
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, access: Access) -> GcsStore:
        """Nothing is sent, and no credentials are read, before the first call."""
        return cls(parse(url), access)

    @property
    def url(self) -> str:
        return self._place.url

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        check_name(name)
        whole = b"".join(parts_of(data))
        digest = hashlib.md5(whole, usedforsecurity=False).digest()
        own = os.urandom(8).hex()
        from google.api_core.exceptions import PreconditionFailed

        with asking(self._place, "write", name):
            blob = self._blob(name)
            blob.md5_hash = base64.b64encode(digest).decode()  # the service refuses other bytes
            if if_absent:
                blob.metadata = {_TRY: own}
            try:
                blob.upload_from_file(
                    io.BytesIO(whole),
                    size=len(whole),
                    content_type="application/octet-stream",
                    if_generation_match=0 if if_absent else None,
                    checksum=None,
                    **self._client.options,
                )
            except PreconditionFailed:
                # An earlier try may have put it there, and its answer was lost.
                blob.reload(**self._client.options)
                if (blob.metadata or {}).get(_TRY) != own:
                    raise
        return self._info(name, blob)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        check_range(name, 1 << 62, start, length)
        out = io.BytesIO()
        self._read(name, start, length, out)
        return out.getvalue()

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        check_name(name)
        out = out.cast("B")
        check_range(name, 1 << 62, start, len(out))
        self._read(name, start, len(out), _Filling(out))

    def head(self, name: str) -> Info | None:
        check_name(name)
        try:
            with asking(self._place, "look at", name):
                blob = self._blob(name)
                blob.reload(**self._client.options)
        except Missing:
            return None
        return self._info(name, blob)

    def list(self, prefix: str = "") -> Iterator[Info]:
        check_prefix(prefix)
        return self._list(prefix)

    def delete(self, names: Iterable[str]) -> int:
        count = 0
        batch: list[str] = []
        for name in names:
            check_name(name)
            batch.append(name)
            if len(batch) == _BATCH:
                self._delete(batch)
                count += len(batch)
                batch = []
        if batch:
            self._delete(batch)
        return count + len(batch)

    def sync(self) -> None:
        return None  # a write is answered once it is durable

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        from torpor.storage.grants import snapshot_prefix

        snapshot_prefix(prefix)
        for name in names:
            check_name(name)
            if not name.startswith(prefix):
                raise UsageError(f"{name} does not lie under {prefix}.")
        return self._grant("PUT", names, expires, {"x-goog-if-generation-match": "0"})

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        return self._grant("GET", [*names], expires, {})

    def _grant(self, method: str, names: Sequence[str], expires: float, headers: dict[str, str]) -> Grant:
        """Signed requests, which end with the grant; one that would last longer than a signature can ends with that."""
        from torpor.clock import SYSTEM
        from torpor.jobs import Grant, Request
        from torpor.storage.gcs_sign import LONGEST
        from torpor.storage.grants import below_packs

        below = [below_packs(name) for name in names]
        now = (self._clock or SYSTEM).now()
        end = min(expires or now + LONGEST, now + LONGEST)
        start = min(now, end - 1)  # what is over when it is made is signed all the same, and refused by the service
        signer = self._client.signer()
        base = f"/{self._place.bucket}/{self._place.prefix}"
        requests = {
            short: Request(
                method,
                signer.url(method, base + name, start, max(1, int(end - start)), headers),
                headers,
                "md5" if method == "PUT" else "",
            )
            for short, name in zip(below, names, strict=True)
        }
        return Grant(put=requests, expires=end) if method == "PUT" else Grant(get=requests, expires=end)

    def _blob(self, name: str) -> Any:
        return self._client.bucket.blob(self._place.prefix + name)

    def _info(self, name: str, blob: Any) -> Info:
        """MD5 is missing only from objects that were composed of others, and torpor composes none."""
        digest = base64.b64decode(blob.md5_hash or "")
        return Info(name, int(blob.size), blob.time_created.timestamp(), "md5" if digest else "none", digest)

    def _read(self, name: str, start: int, length: int | None, out: io.BytesIO | _Filling) -> None:
        if length != 0:
            try:
                with asking(self._place, "read", name):
                    self._blob(name).download_to_file(
                        out,
                        start=start or None,
                        end=None if length is None else start + length - 1,
                        raw_download=True,
                        checksum="auto" if not start and length is None else None,
                        **self._client.options,
                    )
                if length is None or out.tell() == length:
                    return
            except PastEnd:
                pass
        # No bytes were asked for, or fewer came than were: the size tells which of them is an error.
        info = self.head(name)
        if info is None:
            raise Missing(f"{self.url} has no {name}.")
        if check_range(name, info.size, start, length) > start:
            raise StorageUnavailable(f"{self.url} sent another part of {name} than was asked for.", safe=AS_IT_WAS, remedy="Try again.")

    def _list(self, prefix: str) -> Iterator[Info]:
        skip = len(self._place.prefix)
        with asking(self._place, "list"):
            pages = self._client.service.list_blobs(
                self._place.bucket, prefix=self._place.prefix + prefix, page_size=_PAGE, fields=_LISTED, **self._client.options
            ).pages
        while True:
            with asking(self._place, "list"):
                page = next(pages, None)
            if page is None:
                return
            for blob in page:
                name = blob.name[skip:]
                if is_name(name):
                    yield self._info(name, blob)

    def _delete(self, names: Sequence[str]) -> None:
        """One request for up to `_BATCH` names; those that the service was too busy for are asked for again."""
        from google.api_core.exceptions import from_http_response

        todo = list(names)

        def ask() -> None:
            batch = self._client.service.batch(raise_exception=False)
            with batch:
                for name in todo:
                    self._blob(name).delete(timeout=self._client.options["timeout"], retry=None)
            answers = batch._responses  # noqa: SLF001  -- where the library's own samples read them
            failed = [(name, answer) for name, answer in zip(todo, answers, strict=True) if answer.status_code not in (200, 204, 404)]
            todo[:] = [name for name, _ in failed]
            for name, answer in failed:
                if answer.status_code < 500 and answer.status_code not in (408, 429):
                    with asking(self._place, "delete", name):
                        raise from_http_response(answer)
            if failed:
                raise from_http_response(failed[0][1])

        with asking(self._place, "delete from"):
            self._client.options["retry"](ask)()


class _Filling:
    """A file that fills a buffer, in order. What is too much is counted and dropped."""

    def __init__(self, out: memoryview) -> None:
        self._out = out
        self._at = 0

    def write(self, data: bytes) -> int:
        part = data[: max(0, len(self._out) - self._at)]
        self._out[self._at : self._at + len(part)] = part
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

"""A bucket as a store, at any service that speaks S3: one PUT an object, never in parts. Profiles say what a service can do."""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torpor.errors import NotFound, StorageUnavailable, UsageError
from torpor.storage.base import (
    Capabilities,
    Exists,
    Info,
    Missing,
    Refused,
    Store,
    check_name,
    check_prefix,
    is_name,
    parts_of,
)
from torpor.storage.s3_errors import AS_IT_WAS, Broken, Conflict, Unsupported, answered, asking, code_of, repeat
from torpor.storage.s3_facts import date_of, info_of, md5_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torpor.access import Access
    from torpor.clock import Clock
    from torpor.jobs import Grant
    from torpor.storage.base import Data
    from torpor.storage.s3_place import Account, Place

_BATCH = 1000  # names a request to delete; the protocol's limit


class S3Store(Store):
    """The objects of a bucket below a prefix. `account`: None for credentials that boto3 finds by itself; `clock` dates grants."""

    def __init__(self, place: Place, account: Account | None, clock: Clock | None = None) -> None:
        from torpor.storage.s3_client import Client
        from torpor.storage.s3_read import Reader

        self._place = place
        self._client = Client(place, account)
        self._reader = Reader(place, self._client, self.head)
        self._clock = clock
        self._is_bucket_there = False
        self._deletes_many = True

    @classmethod
    def from_url(cls, url: str, access: Access) -> S3Store:
        """Nothing is sent before the first call."""
        import botocore  # noqa: F401  -- so that a package that is missing is told of at once

        from torpor.storage.s3_place import account, parse

        place = parse(url, access)
        return cls(place, account(place, access))

    @property
    def url(self) -> str:
        return self._place.url

    @property
    def capabilities(self) -> Capabilities:
        place = self._place
        return Capabilities(
            conditional_put=place.conditional_put,
            digest=place.digest,
            presign=True,
            prefix_grants=False,
            consistent_list=True,
            provider=place.profile.provider,
        )

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        from torpor.storage.s3_body import Body

        check_name(name)
        body = Body(parts_of(data))
        if if_absent and not self._place.conditional_put and self.head(name) is not None:
            raise Exists(f"{self.url} already has {name}.")
        digest = body.md5()
        request = self._place.key(name) | {"Body": body, "ContentLength": len(body), "ContentMD5": base64.b64encode(digest).decode()}
        if if_absent and self._place.conditional_put:
            request["IfNoneMatch"] = "*"
        answer = self._write(name, request, len(body), digest)
        if self._place.digest == "md5" and md5_of(answer.get("ETag")) != digest:
            raise self._other_digest(name, answer)
        return info_of(self._place, name, len(body), date_of(answer), answer.get("ETag"))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        return self._reader.get(name, start, length)

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        check_name(name)
        self._reader.get_into(name, start, out.cast("B"))

    def head(self, name: str) -> Info | None:
        check_name(name)
        try:
            answer = repeat(lambda: self._look(name))
        except Missing:
            self._check_bucket()  # an answer to HEAD has no body that tells which of the two is missing
            return None
        return info_of(self._place, name, answer["ContentLength"], answer["LastModified"].timestamp(), answer.get("ETag"))

    def _look(self, name: str) -> dict[str, Any]:
        with asking(self._place, "look at", name):
            return dict(self._client.s3.head_object(**self._place.key(name)))

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
        self._delete(batch)
        return count + len(batch)

    def sync(self) -> None:
        return None  # a PUT is answered once it is durable

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        from torpor.storage.grants import snapshot_prefix

        snapshot_prefix(prefix)
        for name in names:
            check_name(name)
            if not name.startswith(prefix):
                raise UsageError(f"{name} does not lie under {prefix}.")
        headers = {"If-None-Match": "*"} if self._place.conditional_put else {}
        return self._grant("PUT", names, expires, headers)

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        return self._grant("GET", [*names], expires, {})

    def _grant(self, method: Literal["GET", "PUT"], names: Sequence[str], expires: float, headers: dict[str, str]) -> Grant:
        from torpor.clock import SYSTEM
        from torpor.storage.s3_grants import signed

        return signed(self._place, self._client, (self._clock or SYSTEM).now(), method, names, expires, headers)

    def _write(self, name: str, request: dict[str, Any], size: int, digest: bytes) -> dict[str, Any]:
        """PUT. A conditional one that meets another is repeated until one of them is there."""
        from botocore.exceptions import ClientError

        tries = 0

        def write() -> dict[str, Any]:
            nonlocal tries
            tries += 1
            request["Body"].seek(0)
            with asking(self._place, "write", name):
                try:
                    return dict(self._client.s3.put_object(**request))
                except ClientError as error:
                    again = tries > 1 or error.response["ResponseMetadata"].get("RetryAttempts")
                    if code_of(error.response) != "PreconditionFailed" or not again:
                        raise
                    # An earlier try may have done it, and its answer was lost.
                    found = self._client.s3.head_object(**self._place.key(name))
                    if (found["ContentLength"], md5_of(found.get("ETag"))) != (size, digest):
                        raise
                    return dict(found)

        return repeat(write, (Conflict, Broken))

    def _list(self, prefix: str) -> Iterator[Info]:
        skip, last = len(self._place.prefix), ""
        request = {"Bucket": self._place.bucket, "Prefix": self._place.prefix + prefix}
        while True:
            page = self._page(request)
            for found in page.get("Contents", ()):
                name = found["Key"][skip:]
                if name == last:
                    continue  # some servers list what is being replaced twice
                if name < last:
                    raise Refused(f"{self.url} lists names in no order.", safe=AS_IT_WAS, remedy="Use another endpoint.")
                last = name
                if is_name(name):
                    yield info_of(self._place, name, found["Size"], found["LastModified"].timestamp(), found.get("ETag"))
            if not page.get("IsTruncated"):
                return
            after = page.get("NextContinuationToken")
            if not after or after == request.get("ContinuationToken"):
                raise StorageUnavailable(f"{self.url} broke off a list.", safe=AS_IT_WAS, remedy="Try again later.")
            request["ContinuationToken"] = after

    def _page(self, request: dict[str, str]) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            with asking(self._place, "list"):
                return dict(self._client.s3.list_objects_v2(**request))

        return repeat(ask)

    def _delete(self, batch: Sequence[str]) -> None:
        if not batch:
            return
        if self._deletes_many:
            keys = [{"Key": self._place.prefix + name} for name in batch]
            try:
                answer = repeat(lambda: self._delete_many(keys))
            except Refused as error:
                if not isinstance(error, Unsupported):
                    raise
                self._deletes_many = False
            else:
                for failed in answer.get("Errors", ()):
                    if failed.get("Code") != "NoSuchKey":
                        name = str(failed.get("Key", ""))[len(self._place.prefix) :]
                        raise answered(self._place, "delete", name, {"Error": failed, "ResponseMetadata": answer["ResponseMetadata"]})
                return
        for name in batch:
            with suppress(Missing):
                repeat(partial(self._delete_one, name))

    def _delete_many(self, keys: Sequence[dict[str, str]]) -> dict[str, Any]:
        with asking(self._place, "delete from"):
            return dict(self._client.s3.delete_objects(Bucket=self._place.bucket, Delete={"Objects": keys, "Quiet": True}))

    def _delete_one(self, name: str) -> None:
        with asking(self._place, "delete", name):
            self._client.s3.delete_object(**self._place.key(name))

    def _check_bucket(self) -> None:
        """Raise unless the bucket is there; asked once."""
        if self._is_bucket_there:
            return
        try:
            with asking(self._place, "find"):
                self._client.s3.head_bucket(Bucket=self._place.bucket)
        except Missing:
            raise NotFound(
                f"{self._place.profile.title} has no bucket {self._place.bucket}.", remedy="Create it, or correct the storage URL."
            ) from None
        except Refused:
            pass  # a key that may not ask may still read and write
        self._is_bucket_there = True

    def _other_digest(self, name: str, answer: dict[str, Any]) -> StorageUnavailable:
        if str(answer.get("ServerSideEncryption", "")).startswith("aws:kms"):
            return Refused(
                f"The bucket of {self.url} encrypts with KMS, and then an ETag is no MD5.",
                safe="The object was written.",
                remedy="Write ?digest=none into the storage URL.",
            )
        return StorageUnavailable(f"{self.url} answered another digest than that of {name}.", safe=AS_IT_WAS, remedy="Try again.")

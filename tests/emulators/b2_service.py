"""What Backblaze B2 keeps and allows: keys, tokens, buckets and versions, with the answers of its native API, version 4.

Follows Backblaze's API pages. Stricter than b2sdk's own simulator, which lets an upload leave its key's prefix and reads for any token.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torpor.clock import SYSTEM, Clock

DAY = 86_400
WEEK = 7 * DAY
LONGEST = 1000 * DAY  # of a key
PAGE_MAX = 10_000
OF_FILES = frozenset({"listFiles", "readFiles", "shareFiles", "writeFiles", "deleteFiles"})
OF_ONE_BUCKET = OF_FILES | {"listBuckets", "readBuckets", "listAllBucketNames"}
ALL = OF_ONE_BUCKET | {"listKeys", "writeKeys", "deleteKeys", "writeBuckets", "deleteBuckets"}


class Refusal(Exception):
    """An answer that is no success. `headers` go with it."""

    def __init__(self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


@dataclass
class Key:
    """`bucket` and `prefix`: what it is restricted to; None for all. `expires` in seconds since 1970; None never."""

    id: str
    secret: str
    capabilities: frozenset[str]
    bucket: str | None = None
    prefix: str | None = None
    expires: float | None = None


@dataclass
class Token:
    """`key` is None for a token of downloads, which allows `prefix` in `bucket` alone."""

    key: Key | None
    expires: float
    bucket: str = ""
    prefix: str = ""
    busy: bool = False


@dataclass
class Version:
    id: str
    name: str
    action: str
    data: bytes
    sha1: str
    timestamp: int


@dataclass
class Bucket:
    """`files`: the versions of each name, newest first."""

    id: str
    name: str
    files: dict[str, list[Version]] = field(default_factory=dict)

    def newest(self, name: str) -> Version | None:
        """The version that a reader sees; None if there is none, or it is hidden."""
        found = self.files.get(name)
        return found[0] if found and found[0].action == "upload" else None


class Service:
    """One account. All methods may be called from several threads; `clock` ends keys and tokens. `page`: as many files as a list has."""

    def __init__(self, clock: Clock = SYSTEM, page: int = PAGE_MAX) -> None:
        self.clock = clock
        self.page = page
        self.lock = threading.RLock()
        self.account = "0123456789ab"
        self.realm = ""
        self.buckets: dict[str, Bucket] = {}
        self.keys: dict[str, Key] = {}
        self.tokens: dict[str, Token] = {}
        self.uploads: dict[str, Token] = {}
        self._count = 0
        self._stamp = 0

    def make_bucket(self, name: str) -> Bucket:
        with self.lock:
            bucket = Bucket(f"bucket{self._next():018d}", name)
            self.buckets[bucket.id] = bucket
            return bucket

    def make_key(
        self,
        capabilities: frozenset[str] | set[str] = ALL,
        bucket: str | None = None,
        prefix: str | None = None,
        life: float | None = None,
    ) -> Key:
        with self.lock:
            expires = None if life is None else self.clock.now() + life
            key = Key(f"005{self._next():022d}", "K005" + secrets.token_urlsafe(20), frozenset(capabilities), bucket, prefix, expires)
            self.keys[key.id] = key
            return key

    def end_tokens(self) -> None:
        """All tokens run out now, as each does within a day."""
        with self.lock:
            for token in (*self.tokens.values(), *self.uploads.values()):
                token.expires = 0

    def put(self, bucket: Bucket, name: str, data: bytes, sha1: str, action: str = "upload") -> Version:
        """A new version. Times are in milliseconds and never the same twice, so that they order versions as B2 does."""
        with self.lock:
            self._stamp = max(self._stamp + 1, int(self.clock.now() * 1000))
            version = Version(f"4_z{bucket.id}_f{self._next():012d}", name, action, data, sha1, self._stamp)
            bucket.files.setdefault(name, []).insert(0, version)
            return version

    def _next(self) -> int:
        self._count += 1
        return self._count

    # what a caller may do

    def authorize(self, key_id: str, secret: str) -> dict[str, Any]:
        with self.lock:
            key = self.keys.get(key_id)
            if key is None or key.secret != secret or not self._alive(key):
                raise Refusal(401, "bad_auth_token")
            name = f"4_{secrets.token_hex(16)}_acct"
            self.tokens[name] = Token(key, self.clock.now() + DAY)
            buckets = None
            if key.bucket is not None:
                bucket = self.buckets.get(key.bucket)
                buckets = [{"id": key.bucket, "name": bucket.name if bucket else None}]
            return {
                "accountId": self.account,
                "authorizationToken": name,
                "applicationKeyExpirationTimestamp": key.expires and int(key.expires * 1000),
                "allowed": {"buckets": buckets, "capabilities": sorted(key.capabilities), "namePrefix": key.prefix},
            }

    def check(self, token: str, capability: str, bucket: str | None = None, name: str | None = None) -> Key:
        """The key behind an account's token, if it may do that; `name` is a name or the beginning of names."""
        with self.lock:
            found = self._token(self.tokens, token)
            key = found.key
            if key is None:
                raise Refusal(401, "bad_auth_token", "this token is for downloads")
            check_key(key, capability, bucket, name)
            return key

    def check_download(self, token: str, bucket: Bucket, name: str) -> None:
        with self.lock:
            if not token:
                raise Refusal(401, "unauthorized", "the bucket is private")
            found = self._token(self.tokens, token)
            if found.key is not None:
                check_key(found.key, "readFiles", bucket.id, name)
            elif found.bucket != bucket.id or not name.startswith(found.prefix):
                raise Refusal(401, "unauthorized", "the token is for another prefix")

    def begin_upload(self, token: str, name: str) -> Token:
        """The upload's token, taken: B2 allows one upload at a time by each."""
        with self.lock:
            found = self._token(self.uploads, token)
            if found.busy:
                raise Refusal(400, "auth_token_limit", f"more than one upload using auth token {token}")
            assert found.key is not None
            check_key(found.key, "writeFiles", found.bucket, name)
            found.busy = True
            return found

    def _token(self, tokens: dict[str, Token], name: str) -> Token:
        found = tokens.get(name)
        if found is None or (found.key is not None and found.key.id not in self.keys):
            raise Refusal(401, "bad_auth_token", "the authorization token is not valid")
        if self.clock.now() >= found.expires or (found.key is not None and not self._alive(found.key)):
            raise Refusal(401, "expired_auth_token", "the authorization token has expired")
        return found

    def _alive(self, key: Key) -> bool:
        return key.expires is None or self.clock.now() < key.expires

    def bucket(self, id: str) -> Bucket:
        found = self.buckets.get(id)
        if found is None:
            raise Refusal(400, "bad_bucket_id", f"Bucket does not exist: {id}")
        return found

    def create_key(self, token: str, body: dict[str, Any]) -> Key:
        self.check(token, "writeKeys")
        capabilities, life = set(body["capabilities"]), body.get("validDurationInSeconds")
        buckets, prefix = body.get("bucketIds"), body.get("namePrefix")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", body["keyName"]):
            raise Refusal(400, "bad_request", "illegal key name")
        if not capabilities or capabilities - (OF_ONE_BUCKET if buckets else ALL):
            raise Refusal(400, "bad_request", "illegal capabilities")
        if life is not None and not (isinstance(life, int) and 1 <= life < LONGEST):
            raise Refusal(400, "bad_request", "validDurationInSeconds out of range")
        if prefix is not None and not buckets:
            raise Refusal(400, "bad_request", "namePrefix without bucketIds")
        if buckets and (len(buckets) != 1 or buckets[0] not in self.buckets):
            raise Refusal(400, "bad_bucket_id", "Bucket does not exist")
        return self.make_key(capabilities, buckets[0] if buckets else None, prefix, life)

    def download_token(self, token: str, body: dict[str, Any]) -> str:
        life = body["validDurationInSeconds"]
        self.check(token, "shareFiles", body["bucketId"], body["fileNamePrefix"])
        if not isinstance(life, int) or not 1 <= life <= WEEK:
            raise Refusal(400, "bad_request", "validDurationInSeconds out of range")
        with self.lock:
            name = f"3_{secrets.token_hex(16)}_dnld"
            self.tokens[name] = Token(None, self.clock.now() + life, body["bucketId"], body["fileNamePrefix"])
            return name

    def versions(self, bucket: Bucket, prefix: str, start: str, start_id: str) -> Iterator[Version]:
        """From there on: by name, and of one name the newest first."""
        with self.lock:
            names = sorted(name for name in bucket.files if name.startswith(prefix) and name >= start)
            found = [version for name in names for version in bucket.files[name]]
        if start_id and found and found[0].name == start:
            skip = [version.id for version in found].index(start_id)
            found = found[skip:]
        return iter(found)

    def delete_version(self, name: str, id: str) -> None:
        with self.lock:
            for bucket in self.buckets.values():
                kept = [version for version in bucket.files.get(name, []) if version.id != id]
                if len(kept) < len(bucket.files.get(name, [])):
                    bucket.files[name] = kept
                    if not kept:
                        del bucket.files[name]
                    return
        raise Refusal(400, "file_not_present", f"file_state_deleted: {id}")


def check_key(key: Key, capability: str, bucket: str | None, name: str | None) -> None:
    """401 `unauthorized` unless the key has the capability, for that bucket, and for names of that beginning."""
    if capability not in key.capabilities:
        raise Refusal(401, "unauthorized", f"the key has no {capability}")
    if key.bucket is not None and bucket != key.bucket:
        raise Refusal(401, "unauthorized", "the key is for another bucket")
    if key.prefix is not None and name is not None and not name.startswith(key.prefix):
        raise Refusal(401, "unauthorized", "the key is for another prefix")

"""Objects in a bucket of Backblaze B2, by its native API (docs/providers.md has its ways).

B2 keeps every version of a name until it is deleted. A put of a name that is taken makes a new version, which readers see instead.
There are no conditional puts: `if_absent` looks before it writes, and of several writers at once more than one can believe that it
was first; the last version counts. torpor's names are never used twice on purpose, so that takes two writers with one id.
"""

from __future__ import annotations

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode

from torpor.clock import SYSTEM
from torpor.errors import UsageError
from torpor.jobs import Grant, Request
from torpor.settings import Secret
from torpor.storage.b2_client import Client, File, check_sha1
from torpor.storage.base import Capabilities, Exists, Info, Missing, Store, check_name, check_prefix, check_range, is_name, parts_of
from torpor.storage.grants import PREFIX_HEADER, below_packs, snapshot_prefix
from torpor.storage.urls import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torpor.access import Access
    from torpor.clock import Clock
    from torpor.storage.base import Data

A = TypeVar("A")
B = TypeVar("B")

REALM = "https://api.backblazeb2.com"
LIFE_MAX = 7 * 86_400  # seconds; what B2 allows for a token of downloads, and more than any job needs
THREADS = 8
EXAMPLE = "b2://bucket/prefix"

_OVER = "over"  # stands for a key that was never made
_BUCKET = re.compile(r"[A-Za-z0-9-]{6,63}\Z")
_SHA1 = re.compile(r"[0-9a-f]{40}\Z")


class B2Store(Store):
    """`prefix`: where in the bucket the objects lie; empty, or ending in a slash. The key must be for all buckets: see `grant_put`."""

    def __init__(self, bucket: str, prefix: str, key_id: str, key: Secret, realm: str = REALM, clock: Clock = SYSTEM) -> None:
        self._prefix = prefix
        self._realm = realm
        self._clock = clock
        self._url = f"b2://{bucket}" + (f"/{prefix[:-1]}" if prefix else "") + ("" if realm == REALM else "?" + urlencode({"realm": realm}))
        self._client = Client(self._url, realm, bucket, key_id, key)

    @classmethod
    def from_url(cls, url: str, access: Access) -> B2Store:
        """`b2://bucket/prefix`, with `?realm=https://…` for another service than Backblaze's own. Opens no connection."""
        bucket, prefix, realm = _parse(url)
        key_id, key = access.get("B2_KEY_ID"), access.get("B2_APPLICATION_KEY")
        if not key_id or not key:
            raise UsageError(
                "Storage at b2: needs an application key.", remedy="Set B2_KEY_ID and B2_APPLICATION_KEY; docs/providers.md says which."
            )
        return cls(bucket, prefix, key_id, Secret(key), realm)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=False, digest="sha1", presign=True, prefix_grants=True, consistent_list=True, provider="b2")

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        check_name(name)
        whole = b"".join(parts_of(data))
        if if_absent and self.head(name) is not None:
            raise Exists(f"{self._url} already has {name}.")
        file = self._client.upload(self._prefix + name, whole)
        return Info(name, len(whole), file.time, "sha1", check_sha1(file, whole, self._url))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        if start == 0 and length is None:
            return self._client.download(self._prefix + name, 0, None)[0]
        end = self._check(name, start, length) if length is None or length <= 0 or start < 0 else start + length
        if end == start:
            return b""
        data, total = self._client.download(self._prefix + name, start, None, end)
        check_range(name, total, start, length)
        return data

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        check_name(name)
        out = out.cast("B")
        if start < 0 or not out:
            self._check(name, start, len(out))
            return
        _, total = self._client.download(self._prefix + name, start, out, start + len(out))
        check_range(name, total, start, len(out))

    def head(self, name: str) -> Info | None:
        check_name(name)
        found = self._client.head(self._prefix + name)
        return None if found is None else self._info(found)

    def list(self, prefix: str = "") -> Iterator[Info]:
        check_prefix(prefix)
        found = map(self._info, self._client.names(self._prefix + prefix))
        return (info for info in found if is_name(info.name))

    def delete(self, names: Iterable[str]) -> int:
        chosen = [*names]
        for name in chosen:
            check_name(name)
        _in_parallel(self._delete, chosen)
        return len(chosen)

    def sync(self) -> None:
        return None  # B2 answers once an object is durable

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        """As `Store.grant_put`, by an application key that can write below the prefix and nothing else, for a week at most.

        Asks B2 for that key, which takes an account's key with writeKeys: B2 gives no key for one bucket that power.
        """
        below = snapshot_prefix(prefix)
        life, end = self._life(expires)
        label = re.sub(r"[^A-Za-z0-9-]", "-", f"torpor-{below[:-1]}")[:100]
        key_id, key = self._client.make_key(label, ["writeFiles"], self._prefix + prefix, life) if life else (_OVER, "")
        headers = {
            PREFIX_HEADER: below,
            "Authorization": "Basic " + base64.b64encode(f"{key_id}:{key}".encode()).decode(),
            "X-Bz-Bucket-Id": self._client.bucket_id,
            "X-Bz-File-Name": self._prefix + "packs/{name}",
        }
        return Grant(put_template=Request("POST", f"b2:{self._realm}", headers), expires=end)

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        """As `Store.grant_get`, by tokens of downloads, one a snapshot, for a week at most. A token reads all packs of its snapshot."""
        chosen = [(below_packs(name), name) for name in names]
        folders = sorted({name.rpartition("/")[0] + "/" if "/" in below else name for below, name in chosen})
        if not chosen:
            return Grant(expires=expires)
        life, end = self._life(expires)
        tokens = dict(zip(folders, _in_parallel(lambda folder: self._token(folder, life), folders), strict=True))
        base = f"{self._client.download_url}/file/{self._client.bucket}/{quote(self._prefix)}"
        get = {}
        for below, name in chosen:
            folder = name.rpartition("/")[0] + "/" if "/" in below else name
            get[below] = Request("GET", base + name, {"Authorization": tokens[folder]})
        return Grant(get=get, expires=end)

    def end_grant(self, grant: Grant) -> None:
        """Deletes the key of a grant to write. Tokens to read cannot be called back; they run out."""
        self.revoke(self.revocation(grant))

    def revocation(self, grant: Grant) -> str:
        """The id of the key, which opens nothing without the key itself."""
        template = grant.put_template
        if template is None or template.url != f"b2:{self._realm}":
            return ""
        key_id = base64.b64decode(template.headers["Authorization"].partition(" ")[2]).decode().partition(":")[0]
        return "" if key_id == _OVER else key_id

    def revoke(self, revocation: str) -> None:
        if revocation:
            self._client.end_key(revocation)

    def _token(self, folder: str, life: int) -> str:
        return self._client.download_token(self._prefix + folder, life) if life else _OVER

    def _check(self, name: str, start: int, length: int | None) -> int:
        """The end of a range that cannot be asked for as it is. Errors as `check_range`."""
        if start < 0 or (length or 0) < 0:
            check_range(name, 0, start, length)
        found = self.head(name)
        if found is None:
            raise Missing(f"{self._url} has no {name}.")
        return check_range(name, found.size, start, length)

    def _delete(self, name: str) -> None:
        """Oldest first: whoever is interrupted leaves the newest, and no older one comes to light."""
        for version in reversed(self._client.versions(self._prefix + name)):
            self._client.delete(version)

    def _info(self, file: File) -> Info:
        known = _SHA1.match(file.sha1)  # files in parts, which others may have put here, have none
        return Info(
            file.name[len(self._prefix) :], file.size, file.time, "sha1" if known else "none", bytes.fromhex(file.sha1) if known else b""
        )

    def _life(self, expires: float) -> tuple[int, float]:
        """How long a key lives, in seconds, and when its grant ends. 0: it is over already, and needs no key."""
        now = self._clock.now()
        if not expires or expires > now + LIFE_MAX:
            expires = now + LIFE_MAX
        return max(0, int(expires - now)), expires


def _in_parallel(call: Callable[[A], B], items: Sequence[A]) -> list[B]:
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
        return list(pool.map(call, items))


def _parse(url: str) -> tuple[str, str, str]:
    """(bucket, prefix, realm)."""
    parts = split(url, "The b2: URL", f"Write {EXAMPLE}.")
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError("A b2: URL holds no credentials.", remedy="Set B2_KEY_ID and B2_APPLICATION_KEY instead.")
    if not _BUCKET.match(parts.netloc) or parts.fragment:
        raise UsageError("The b2: URL names no bucket that B2 could have.", remedy=f"Write {EXAMPLE}.")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    realm = options.pop("realm", REALM).rstrip("/")
    if options:
        raise UsageError(f"A b2: URL knows the option realm alone, not {', '.join(sorted(options))}.", remedy=f"Write {EXAMPLE}.")
    where = split(realm, "realm=", "Write ?realm=https://host, without credentials.", port=True)
    if where.scheme not in ("https", "http") or not where.hostname or "@" in where.netloc or where.query or where.fragment:
        raise UsageError("realm= is no URL of a service.", remedy="Write ?realm=https://host, without credentials.")
    prefix = unquote(parts.path).strip("/")
    if prefix:
        check_name(prefix)
    return parts.netloc, prefix and prefix + "/", realm

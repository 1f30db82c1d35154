"""`b2:` requests: uploads to Backblaze B2 by its native API, with an application key that can write below one prefix and no more.

The URL is `b2:` and the realm's; the headers name the key, the bucket's id and the object's full name. Reads are plain `https:`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from torpor.clock import SYSTEM
from torpor.errors import NoSpace, StorageUnavailable
from torpor.storage.base import GrantExpired, NotGranted, Refused, parts_of
from torpor.storage.transfer import PutInfo, check_expiry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer
    from urllib3 import PoolManager

    from torpor.storage.grants import Call

API = "/b2api/v4/"
PAUSES = (0.0, 1.0, 2.0, 4.0)  # before each further try; the first is at once, since a new upload URL often helps
PAUSE_MAX = 60.0
CONNECT, READ = 10.0, 120.0  # seconds
CONNECTIONS = 32

_TOKEN = frozenset({"bad_auth_token", "expired_auth_token"})
_RENEWS = "The control side renews a running job's grant by itself."


class _Again(Exception):
    """Not this time. `pause`: seconds that the service asked for."""

    def __init__(self, why: str, pause: float = 0.0, token: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.pause = pause
        self.token = token  # it is the token that will not do


class _Upload(NamedTuple):
    """Where one object at a time can be sent."""

    url: str
    token: str


class _Account:
    """What a key was told when it was authorized, and its spare upload URLs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.api = ""
        self.token = ""
        self.spare: list[_Upload] = []


class B2Transport:
    """Keeps one authorization a key and one upload URL a thread that uploads at once. `pauses`: seconds before each further try."""

    def __init__(self, pauses: Sequence[float] = PAUSES) -> None:
        self._pauses = pauses
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._pool: PoolManager | None = None
        self._closed = threading.Event()

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        """A repeated put makes a second version of the same bytes: the key can neither look nor delete."""
        views = parts_of(parts)
        sha1 = hashlib.sha1(usedforsecurity=False)
        for view in views:
            sha1.update(view)
        account = self._account(call)
        for pause in (*self._pauses, None):
            check_expiry(call, SYSTEM.now())
            try:
                self._upload(account, call, views, sha1.hexdigest())
            except _Again as again:
                if pause is None:
                    raise StorageUnavailable(
                        f"B2 did not take {call.name} in {len(self._pauses) + 1} tries: {again.why}.",
                        safe="What was stored before is kept.",
                        remedy="Run the command again; if this lasts, look at Backblaze's status page.",
                    ) from None
                self._closed.wait(min(max(pause, again.pause), PAUSE_MAX))
            else:
                break
        return PutInfo(call.name, sum(map(len, views)), "sha1", sha1.digest())

    def get(self, call: Call, start: int, length: int | None) -> bytes:
        raise NotGranted(f"This job's key for B2 can only write, and not read {call.name}.")

    def get_into(self, call: Call, start: int, out: memoryview) -> None:
        self.get(call, start, len(out))

    def sync(self, calls: Iterable[Call]) -> None:
        for call in calls:  # B2 answers once an object is durable
            check_expiry(call, SYSTEM.now())

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            pool, self._pool, self._accounts, self._closed = self._pool, None, {}, threading.Event()
        if pool is not None:
            pool.clear()

    def _account(self, call: Call) -> _Account:
        with self._lock:
            return self._accounts.setdefault(f"{call.url} {call.headers['Authorization']}", _Account())

    def _upload(self, account: _Account, call: Call, views: list[memoryview], sha1: str) -> None:
        from urllib.parse import quote

        place = self._place(account, call)
        headers = {
            "Authorization": place.token,
            "X-Bz-File-Name": quote(call.headers["X-Bz-File-Name"]),
            "X-Bz-Content-Sha1": sha1,
            "Content-Type": "application/octet-stream",
            "Content-Length": str(sum(map(len, views))),
        }
        answer = self._ask(call, place.url, headers, views)
        if answer.get("contentSha1") != sha1:
            raise _Again("it stored something else than it was sent")
        with account.lock:
            account.spare.append(place)

    def _place(self, account: _Account, call: Call) -> _Upload:
        """An upload URL that no other thread uses. A new one, unless one that worked is spare."""
        with account.lock:
            if account.spare:
                return account.spare.pop()
            if not account.token:
                self._authorize(account, call)
            token, api = account.token, account.api
        body = json.dumps({"bucketId": call.headers["X-Bz-Bucket-Id"]}).encode()
        try:
            found = self._ask(call, f"{api}{API}b2_get_upload_url", {"Authorization": token}, body)
        except _Again as again:
            with account.lock:
                if again.token and account.token == token:
                    account.token = ""  # the next try authorizes anew
            raise
        return _Upload(found["uploadUrl"], found["authorizationToken"])

    def _authorize(self, account: _Account, call: Call) -> None:
        url = call.url.partition(":")[2].rstrip("/")
        try:
            found = self._ask(call, f"{url}{API}b2_authorize_account", {"Authorization": call.headers["Authorization"]}, b"{}")
        except _Again as again:
            if again.token:
                raise GrantExpired(f"The key for {call.name} has run out or was taken back.", remedy=_RENEWS) from None
            raise
        account.token, account.api = found["authorizationToken"], found["apiInfo"]["storageApi"]["apiUrl"].rstrip("/")

    def _ask(self, call: Call, url: str, headers: dict[str, str], body: bytes | Sequence[Any]) -> dict[str, Any]:
        """The answer of one request. `_Again` if another try can help; else an error. What it says holds no URL and no token."""
        from urllib3.exceptions import HTTPError

        try:
            answer = self._pooled().request("POST", url, body=body, headers=headers, retries=False, redirect=False)
        except HTTPError as error:
            raise _Again(f"the connection failed ({type(error).__name__})") from None
        found = _decode(answer.data)
        if answer.status == 200 and found:
            return found
        raise _refusal(call, answer.status, found, answer.headers.get("Retry-After", ""))

    def _pooled(self) -> PoolManager:
        from urllib3 import PoolManager, Timeout

        with self._lock:
            if self._pool is None:
                self._pool = PoolManager(maxsize=CONNECTIONS, timeout=Timeout(connect=CONNECT, read=READ))
            return self._pool


def _decode(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(call: Call, status: int, found: dict[str, Any], retry_after: str) -> Exception:
    """What a status and B2's `code` mean. Its `message` is not passed on: it can hold a token."""
    code = str(found.get("code", ""))[:40]
    what = f"B2 refused {call.name} ({status} {code})."
    if status == 401 and code in _TOKEN:
        return _Again(code, token=True)
    if status == 401:
        return NotGranted(what, remedy="Start the job again from the control side, which grants what a job needs.")
    if status == 403 and code in ("storage_cap_exceeded", "cap_exceeded"):
        return NoSpace(what, safe="What was stored before is kept.", remedy="Raise the storage cap of the Backblaze account, or prune.")
    if status == 403:
        return Refused(what, remedy="Raise the account's caps at Backblaze, or wait for midnight UTC.")
    if status == 400 and (code == "auth_token_limit" or "sha1 did not match" in str(found.get("message", "")).lower()):
        return _Again(code)
    if status in (200, 408, 429) or status >= 500:
        return _Again(f"{status} {code}".strip(), float(retry_after) if retry_after.isdigit() else 0.0)
    return Refused(what, remedy="Report this as a defect: the request itself is wrong.")

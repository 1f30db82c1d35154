"""`b2:` requests: uploads to Backblaze B2 by its native API, with an application key that can write below one prefix and no more.

The URL is `b2:` and the realm's; the headers name the key, the bucket's id and the object's full name. Reads are plain `https:`.
Connections, tries, rate and pace are those of `transport_http`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from torpor.clock import SYSTEM
from torpor.errors import NoSpace
from torpor.storage.answers import code_of
from torpor.storage.base import GrantExpired, NotGranted, Refused, parts_of
from torpor.storage.options import DEFAULT
from torpor.storage.retry import Again, retry_after
from torpor.storage.transfer import PutInfo, check_expiry
from torpor.storage.transport_http import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from torpor.clock import Clock
    from torpor.storage.grants import Call
    from torpor.storage.options import Options
    from torpor.storage.retry import Timing
    from torpor.storage.wire import Answer

API = "/b2api/v4/"
_JSON = {"Content-Type": "application/json"}
_SAFE = "What was stored before is kept."
_TOKEN = frozenset({"bad_auth_token", "expired_auth_token"})
_BUSY = frozenset({429, 503})


class _BadToken(Again):
    """The token that was sent will not do: it ran out, or was taken back."""


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


class B2Transport(HttpTransport):
    """Keeps one authorization a key, and as many upload URLs as threads upload at once: B2 takes one upload at a time by each."""

    def __init__(self, options: Options = DEFAULT, timing: Timing | None = None, clock: Clock = SYSTEM) -> None:
        super().__init__(options, timing, clock)
        self._guard = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        """A repeated put makes a second version of the same bytes: the key can neither look nor delete."""
        views = parts_of(parts)
        size = sum(map(len, views))
        digest = hashlib.sha1(usedforsecurity=False)
        for view in views:
            digest.update(view)
        sha1 = digest.hexdigest()
        call = call._replace(url=call.url.partition(":")[2].rstrip("/"))
        account = self._account(call)

        def put_once() -> PutInfo:
            check_expiry(call, self._clock.now())
            place = self._place(account, call)
            headers = {
                "Authorization": place.token,
                "X-Bz-File-Name": _quote(call.headers["X-Bz-File-Name"]),
                "X-Bz-Content-Sha1": sha1,
                "Content-Type": "application/octet-stream",
            }
            stored = self._ask(call, place.url, headers, views)
            if stored.get("contentSha1") != sha1 or stored.get("contentLength") != size:
                raise Again("B2 stored something else than it was sent", sent=True)
            with account.lock:
                account.spare.append(place)
            return PutInfo(call.name, size, "sha1", digest.digest())

        return self._try(call, put_once)

    def get(self, call: Call, start: int, length: int | None) -> bytes:
        raise NotGranted(f"This job's key for B2 can only write, and not read {call.name}.")

    def get_into(self, call: Call, start: int, out: memoryview) -> None:
        self.get(call, start, len(out))

    def _account(self, call: Call) -> _Account:
        with self._guard:
            return self._accounts.setdefault(f"{call.url} {call.headers['Authorization']}", _Account())

    def _place(self, account: _Account, call: Call) -> _Upload:
        """An upload URL that no other thread uses: a spare one that worked, or a new one."""
        with account.lock:
            if account.spare:
                return account.spare.pop()
            if not account.token:
                self._authorize(account, call)
            token, api = account.token, account.api
        body = json.dumps({"bucketId": call.headers["X-Bz-Bucket-Id"]}).encode()
        try:
            found = self._ask(call, f"{api}{API}b2_get_upload_url", {"Authorization": token, **_JSON}, [memoryview(body)])
        except _BadToken:
            with account.lock:
                if account.token == token:
                    account.token = ""  # the next try authorizes anew
            raise
        return _Upload(str(found["uploadUrl"]), str(found["authorizationToken"]))

    def _authorize(self, account: _Account, call: Call) -> None:
        headers = {"Authorization": call.headers["Authorization"], **_JSON}
        try:
            found = self._ask(call, f"{call.url}{API}b2_authorize_account", headers, [memoryview(b"{}")])
        except _BadToken as error:
            raise GrantExpired(
                f"The key to write {call.name} has run out, or was taken back.",
                remedy="The control side renews a running job's grant by itself.",
            ) from error
        account.token, account.api = str(found["authorizationToken"]), str(found["apiInfo"]["storageApi"]["apiUrl"]).rstrip("/")

    def _ask(self, call: Call, url: str, headers: dict[str, str], body: list[memoryview]) -> dict[str, Any]:
        """The answer to one request. Raises `Again` if another try can help, else an error; neither shows a URL or a token."""
        moved = self._sending if "X-Bz-Content-Sha1" in headers else None
        answer = self._wire.send("POST", url, {**headers, "Content-Length": str(sum(map(len, body)))}, body, moved)
        try:
            text = answer.text()
            found = _decode(text) if answer.status == 200 else {}
            if found:
                return found
            raise self._refusal(call, answer, text)
        finally:
            answer.end()

    def _refusal(self, call: Call, answer: Answer, text: bytes) -> Exception:
        """What a status and B2's `code` mean. Its `message` is not passed on: it can hold a token."""
        status, code = answer.status, code_of(text)
        said = f"B2 answered {status}{f' {code}' if code else ''}"
        what = f"Cannot write {call.name}: {said}."
        if status == 401 and code in _TOKEN:
            return _BadToken(said)
        if status == 401:
            return NotGranted(what, remedy="Start the job again from the control side, which grants what a job needs.")
        if status == 403 and code in ("storage_cap_exceeded", "cap_exceeded"):
            return NoSpace(what, safe=_SAFE, remedy="Raise the storage cap of the Backblaze account, or remove snapshots and prune.")
        if status == 403:
            return Refused(what, safe=_SAFE, remedy="Raise the caps of the Backblaze account, or wait for midnight UTC.")
        if status == 400 and (code == "auth_token_limit" or b"sha1 did not match" in text.lower()):
            return Again(said)
        if status in (200, 408, 429) or status >= 500:
            return Again(said, after=retry_after(answer.header("Retry-After"), self._clock.now()), busy=status in _BUSY, sent=True)
        return Refused(what, remedy="Report this as a defect: the request itself is wrong.")


def _decode(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _quote(name: str) -> str:
    from urllib.parse import quote

    return quote(name)

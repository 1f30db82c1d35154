"""vast.ai's HTTP API: one method a call, limits on requests kept, answers checked for their shape.

Endpoints and limits: docs.vast.ai and what its own package `vastai` 1.9.1 sends (2026-11). A call that can be made again is, after a
connection that broke and after 5xx; making an instance never is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torpor import __version__
from torpor.access import Access
from torpor.clock import SYSTEM, Clock, SystemClock
from torpor.errors import MissingDependency, UsageError
from torpor.machines.vast_errors import VastBusy, VastDenied, VastGone, VastQuota, VastRefused, VastSilent
from torpor.settings import Secret

if TYPE_CHECKING:
    import ssl

    import httpx

URL = "https://console.vast.ai"
PAGE = 25  # instances; the service gives no more at once
TRIES = 4  # of a call that can be made again
PATIENCE = 120.0  # seconds that a call waits for its turn after answers of 429
_TIMEOUT = 30.0  # seconds without a byte
_LONGEST = 300  # characters of the service's words that are shown

# Seconds between two calls, by kind of call, as the service's description of its API has them (`x-rate-limit`).
LIMITS = {"search": 6.0, "create": 4.5, "list": 1.0, "show": 2.0, "change": 1.0, "destroy": 3.0, "keys": 2.0}
_OTHER = 1.0

Pause = Callable[[float], None]
Json = dict[str, Any]


class Turns:
    """When each kind of call may be made next. Shared by all clients of one account in this process, since the limit is the account's.

    The line may be minutes long: of many who want to create at once, each takes its place at once, and waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def take(self, kind: str, now: float, factor: float) -> float:
        """Seconds to wait; the turn is taken with that."""
        every = LIMITS.get(kind, _OTHER) * factor
        with self._lock:
            at = max(now, self._last.get(kind, now - every) + every)
            self._last[kind] = at
        return at - now


_turns: dict[tuple[str, str, Callable[[], float]], Turns] = {}  # by address, account, and the clock that their times are of


class Client:
    """One account. `accounts` holds VAST_API_KEY, and where they differ from the usual VAST_URL, and VAST_PACE: a factor on the seconds
    between calls, 0 for none. `pause` waits so many seconds. Any thread may call."""

    def __init__(self, accounts: Access, clock: Clock = SYSTEM, pause: Pause = time.sleep) -> None:
        _package()  # so that one that is missing is told of at once
        self._key = Secret(accounts.get("VAST_API_KEY").strip())
        self.url = accounts.get("VAST_URL").strip().rstrip("/") or URL
        self._pace = _factor(accounts.get("VAST_PACE"))
        self._pause = pause
        # Of the computer's clocks the one that nobody sets: if it went back, everybody would wait.
        self._ticks: Callable[[], float] = time.monotonic if isinstance(clock, SystemClock) else clock.now
        self._turns = _turns.setdefault((self.url, self.account, self._ticks), Turns())
        self._http: httpx.Client | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Client({self.url})"

    @property
    def account(self) -> str:
        """A digest of the key, to tell accounts apart."""
        return hashlib.sha256(b"torpor vast account:" + self._key.reveal().encode(errors="surrogateescape")).hexdigest()[:16]

    def require_key(self) -> None:
        """Raise `VastDenied` if there is none."""
        if not re.match(r"https://|http://(127\.[0-9.]+|localhost|\[::1\])(:[0-9]+)?\Z", self.url):
            raise VastDenied("VAST_URL is no https URL: the account's key would be read on the way.", remedy="Say https://…")
        if not self._key:
            raise VastDenied("There is no account at vast.ai: VAST_API_KEY is not set.", remedy="Set it (docs/machines.md).")
        if not (self._key.reveal().isascii() and self._key.reveal().isprintable()):
            raise VastDenied("VAST_API_KEY holds letters that no key has.", remedy="Copy the key again, and nothing around it.")

    # offers and instances

    def search(self, query: Json) -> list[Json]:
        """Offers. Raises `VastQuota` when the day's searches are used up."""
        return _rows(self._call("search", "POST", "/api/v0/bundles/", query).get("offers"))

    def create(self, offer: str, body: Json) -> Json:
        """Make an instance of an offer; sent once. Raises `VastGone` if it is taken; `VastRefused`, whose answer may name an instance
        all the same; `VastSilent` if nobody knows."""
        return self._call("create", "PUT", f"/api/v0/asks/{offer}/", body, again=False)

    def instances(self) -> Iterator[Json]:
        """All of the account, page by page."""
        token = ""
        while True:
            query = {"select_filters": "{}", "order_by": '[{"col":"id","dir":"asc"}]', "limit": str(PAGE)}
            page = self._call("list", "GET", "/api/v1/instances/", query=query | ({"after_token": token} if token else {}))
            yield from _rows(page.get("instances"))
            before, token = token, str(page.get("next_token") or "")
            if not token or token == before:
                return

    def show(self, instance: str) -> Json | None:
        """None if there is none."""
        try:
            found = self._call("show", "GET", f"/api/v0/instances/{instance}/", query={"owner": "me"})
        except VastGone:
            return None
        if "instances" not in found:
            raise VastSilent(f"vast.ai answered something else than instance {instance}.", remedy="Try again.")
        one = found["instances"]
        if isinstance(one, list):  # seen in older answers
            one = one[0] if one else None
        return one if isinstance(one, dict) and one else None

    def set_state(self, instance: str, state: str) -> None:
        """`running` or `stopped`."""
        self._change(instance, {"state": state})

    def label(self, instance: str, text: str) -> None:
        self._change(instance, {"label": text})

    def bid(self, instance: str, price: float) -> None:
        """Dollars an hour without the disk."""
        self._call("change", "PUT", f"/api/v0/instances/bid_price/{instance}/", {"client_id": "me", "price": price})

    def destroy(self, instance: str, first: Callable[[], None] | None = None) -> None:
        """Raises `VastGone` if there is none. `first` is called before each request, when it has its turn; what it raises keeps that
        request from being sent."""
        self._call("destroy", "DELETE", f"/api/v0/instances/{instance}/", {}, first=first)

    def _change(self, instance: str, what: Json) -> None:
        self._call("change", "PUT", f"/api/v0/instances/{instance}/", what)

    # keys and logs

    def attach_key(self, instance: str, line: str) -> None:
        """Let the owner of this line of authorized_keys log in."""
        self._call("keys", "POST", f"/api/v0/instances/{instance}/ssh/", {"ssh_key": line})

    def keys(self, instance: str) -> list[Json]:
        """The lines that may log in. The service writes them as JSON within JSON."""
        found = self._call("keys", "GET", f"/api/v0/instances/{instance}/ssh/").get("ssh_keys")
        try:
            return _rows(json.loads(found) if isinstance(found, str) else found)
        except ValueError:
            raise VastSilent(f"vast.ai answered something else than the keys of {instance}.") from None

    def logs(self, instance: str, lines: int = 200) -> str:
        """The last lines that the instance printed. They are put somewhere else first, which takes seconds; the key does not go there."""
        httpx = _package()
        made = self._call("logs", "PUT", f"/api/v0/instances/request_logs/{instance}/", {"tail": str(lines)})
        for _ in range(TRIES):
            self._pause(2.0)
            try:
                answer = httpx.get(str(made.get("result_url")), timeout=_TIMEOUT)
            except (httpx.HTTPError, httpx.InvalidURL):
                continue
            if answer.status_code == 200:
                return str(answer.text)
        raise VastSilent(f"vast.ai did not show the logs of {instance} in time.", remedy="Try again.")

    # webhooks

    def webhooks(self) -> list[Json]:
        found = self._call("webhooks", "GET", "/api/v0/webhooks/")
        return _rows(found.get("webhooks", found.get("results")))

    def add_webhook(self, name: str, url: str, events: list[str]) -> Json:
        """Its answer holds `webhook.webhook_secret`: it is shown this once. At most 4 an account; https and a public address only."""
        return self._call(
            "webhooks", "POST", "/api/v0/webhooks/", {"name": name, "webhook_url": url, "event_types": events}, again=False
        )  # fmt: skip

    def change_webhook(self, webhook: str, fields: Json) -> Json:
        return self._call("webhooks", "PUT", f"/api/v0/webhooks/{webhook}/", fields)

    def remove_webhook(self, webhook: str) -> None:
        self._call("webhooks", "DELETE", f"/api/v0/webhooks/{webhook}/")

    def rotate_webhook(self, webhook: str) -> Json:
        """A new secret, in the answer."""
        return self._call("webhooks", "POST", f"/api/v0/webhooks/{webhook}/rotate-secret/", {}, again=False)

    def test_webhook(self, webhook: str) -> Json:
        return self._call("webhooks", "POST", f"/api/v0/webhooks/{webhook}/test/", {}, again=False)

    # the wire

    def _call(
        self,
        kind: str,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        again: bool = True,
        first: Callable[[], None] | None = None,
    ) -> Json:
        self.require_key()
        until: float | None = None
        left = TRIES if again else 1
        while True:
            wait = self._turns.take(kind, self._ticks(), self._pace)
            if wait > 0:
                self._pause(wait)
            if until is None:  # how long the line was is not the service's doing
                until = self._ticks() + PATIENCE
            if first is not None:
                first()
            left -= 1
            try:
                answer = self._send(method, path, body, query)
                if answer.status_code != 429:
                    return self._judge(answer)
            except VastSilent:
                if left <= 0:
                    raise
                self._pause(0.5 * 2 ** (TRIES - left))
                continue
            left += 1  # the service did not look at the request, so even a create is sent once
            self._wait_for(self._too_many(answer, kind), until)

    def _send(self, method: str, path: str, body: Json | None, query: Mapping[str, str] | None) -> httpx.Response:
        httpx = _package()
        try:
            return self._open().request(method, path, json=body, params=query)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            silent = VastSilent(
                f"vast.ai can't be reached: {self._words(str(error)) or type(error).__name__}.",
                safe="Nothing was asked of it.",
                remedy="Look at the network, then try again.",
            )
            silent.sent = False
        except httpx.InvalidURL:
            raise VastRefused("VAST_URL is no URL.") from None
        except httpx.HTTPError as error:
            silent = VastSilent(f"vast.ai gave no answer: {self._words(str(error)) or type(error).__name__}.", remedy="Try again.")
        raise silent

    def _open(self) -> httpx.Client:
        httpx = _package()
        with self._lock:
            if self._http is None:
                headers = {"Authorization": f"Bearer {self._key.reveal()}", "User-Agent": f"torpor/{__version__}"}
                # A connection for each call: seconds lie between calls, and one that was closed meanwhile would leave a create in doubt.
                none = httpx.Limits(max_keepalive_connections=0)
                trust = _trust(tls=self.url.startswith("https:"))
                self._http = httpx.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, limits=none, verify=trust)
            return self._http

    def _judge(self, answer: httpx.Response) -> Json:
        """The body of a success. A refusal can come with status 200 and `success: false`."""
        status, body = answer.status_code, _json(answer)
        words = self._words(str(body.get("msg") or body.get("error") or body.get("detail") or answer.text))
        if status in (401, 403) or body.get("error") == "auth_error":
            raise VastDenied(f"vast.ai refuses the account's key: {words}.", remedy="Look at VAST_API_KEY, and what the key may do.")
        if status >= 500 or 300 <= status < 400:
            raise VastSilent(f"vast.ai answers {status}: {words}.", remedy="Try again.")
        gone = status in (404, 410) or str(body.get("error", "")).startswith("no_such_")
        if gone and "new_contract" not in body:
            raise VastGone(f"vast.ai says it is not there: {words}.")
        if status >= 400 or body.get("success") is False:
            raise VastRefused(f"vast.ai refuses: {words}.", remedy="Look at what is asked for, and at the account.", answer=body)
        if not body:
            raise VastSilent("vast.ai answered nothing that can be read.", remedy="Try again.")
        return body

    def _too_many(self, answer: httpx.Response, kind: str) -> float:
        """Seconds to wait, from whichever form the answer has. Raises `VastQuota`."""
        body = _json(answer)
        if "search_quota_exceeded" in (body.get("error"), body.get("msg")):
            raise VastQuota(
                "The account's searches of today at vast.ai are used up.",
                safe="Nothing was rented.",
                remedy="There are new ones from 00:00 UTC on; or name a machine that exists.",
            )
        told = re.search(r"threshold=([0-9]{1,4}(?:\.[0-9]{1,6})?)", str(body.get("detail") or answer.text)[:1000])
        retry = answer.headers.get("Retry-After", "")
        least = float(told[1]) if told else LIMITS.get(kind, _OTHER)
        return max(least, float(retry) if retry.isascii() and retry.isdigit() else 0.0)

    def _wait_for(self, seconds: float, until: float) -> None:
        if self._ticks() + seconds > until:
            raise VastBusy(
                f"vast.ai has had too many requests of this account for {PATIENCE:.0f} s.",
                safe="Nothing was done.",
                remedy="Look at what else uses the account, then try again.",
            )
        self._pause(seconds)

    def _words(self, text: str) -> str:
        """The service's words, fit to be shown: short, printable, without the key."""
        if self._key:
            text = text.replace(self._key.reveal(), "…")
        return "".join(sign if sign.isprintable() else " " for sign in text[:_LONGEST]).strip().rstrip(".")


def _package() -> Any:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingDependency(f"Machines of vast.ai need the package {error.name}.", remedy='Run: pip install "torpor[vast]"') from error
    return httpx


@functools.cache
def _trust(*, tls: bool) -> ssl.SSLContext:
    """Whom connections trust. One for the process: reading the authorities takes longer than a request."""
    import ssl

    if not tls:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made: ssl.SSLContext = _package().create_ssl_context()
    return made


def _factor(text: str) -> float:
    try:
        return max(0.0, float(text)) if text else 1.0
    except ValueError:
        raise UsageError(f"VAST_PACE={text[:20]!a} is no factor.", remedy="Say 1, or 0 for no waits of our own.") from None


def _json(answer: httpx.Response) -> Json:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _rows(found: object) -> list[Json]:
    """What is a list of objects; anything else is no answer."""
    if not isinstance(found, list):
        raise VastSilent("vast.ai answered no list where one was asked for.", remedy="Try again.")
    return [row for row in found if isinstance(row, dict)]

"""The host's end of a grant: one way to move packs, whatever the store. Each URL scheme is a row of `TRANSPORTS`."""

from __future__ import annotations

import threading
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from torpor.clock import SYSTEM
from torpor.errors import StorageUnavailable, TorporError, UsageError
from torpor.storage.base import GrantExpired, NotGranted, check_name
from torpor.storage.grants import Held, is_remote
from torpor.storage.options import DEFAULT, Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from torpor.clock import Clock
    from torpor.jobs import Grant, Granter
    from torpor.storage.grants import Call, Verb
    from torpor.storage.options import Options

    More = Callable[[Verb, str], list[str]]

T = TypeVar("T")

QUIET = 30.0  # seconds after asking in vain


class PutInfo(NamedTuple):
    """One object that was written. `digest` is what the store says of it, of kind `digest_kind`; empty if that is "none"."""

    name: str
    size: int
    digest_kind: str = "none"
    digest: bytes = b""


class Transport(Protocol):
    """Moves bytes for the URLs of one scheme, for any number of threads. The methods are `Transfer`'s, with the request found."""

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo: ...

    def get(self, call: Call, start: int, length: int | None) -> bytes: ...

    def get_into(self, call: Call, start: int, out: memoryview) -> None: ...

    def sync(self, calls: Iterable[Call]) -> None: ...

    def counters(self) -> Counters: ...

    def close(self) -> None: ...


TRANSPORTS = {
    "b2": ("torpor.storage.transport_b2", "B2Transport"),
    "file": ("torpor.storage.transport_file", "FileTransport"),
    "http": ("torpor.storage.transport_http", "HttpTransport"),
    "https": ("torpor.storage.transport_http", "HttpTransport"),
    "memory": ("torpor.storage.transport_memory", "MemoryTransport"),
}

_TUNNEL = "http://127.0.0.1:"  # grants of a gateway (torpor.remote.gateway_store)


def _alone(verb: Verb, name: str) -> list[str]:
    del verb
    return [name]


class Transfer:
    """What one job may read and write. Names are those below `packs/`.

    `ask`: how to get more from the control side, when the grant lacks a name or most of its life is over. `more` says which names to
    ask for along with one, so that a job asks seldom; set it once it is known. `options`: bounds for what goes over a network.

    Errors: `BadName` and `NotGranted` before anything is sent; `GrantExpired`; `StorageUnavailable` (trying again can help), its
    subclass `Refused` (it cannot), `NoSpace`. All methods may be called from several threads at once.
    """

    def __init__(self, grant: Grant, ask: Granter | None = None, clock: Clock = SYSTEM, options: Options = DEFAULT) -> None:
        self.grant = grant
        self.more: More = _alone
        self._held = Held(grant, clock.now())
        self._ask = ask
        self._clock = clock
        self._options = options
        self._used = Counters()
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._quiet = 0.0  # until when nobody asks for a fresh grant who has one that is valid
        self._transports: dict[str, Transport] = {}

    @property
    def remote(self) -> bool:
        """Whether this reaches over a network, where many requests at once are more speed."""
        return is_remote(self.grant)

    def renew(self, grant: Grant) -> None:
        """Use a fresh grant, beside what is left of those before; calls that are under way keep theirs."""
        self.grant = grant
        with self._lock:
            self._held.add(grant, self._clock.now())

    def put(self, name: str, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        """Write a new object of `parts`, one after the other. `blake3`: the digest of the whole, 32 bytes.

        It appears whole or not at all, and never replaces another: a name that is taken raises `Exists`, unless the object there
        is this very one, as after a try whose answer was lost. A store without conditional puts cannot promise that; there, names
        that are never used twice do. Durable once `sync` returned.
        """
        return self._do("put", name, lambda transport, call: transport.put(call._replace(look=self._look(name)), parts, blake3))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`; None: to the end. `Missing` if there is no object, `Damaged` if it is too short."""
        return self._do("get", name, lambda transport, call: transport.get(call, start, length))

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` from `start` on. Errors as `get`; what `out` holds after one is undefined."""
        self._do("get", name, lambda transport, call: transport.get_into(call, start, out))

    def sync(self, names: Iterable[str]) -> None:
        """Return once these objects, which this job put, are durable. Most stores answer no put sooner and need nothing here."""
        by_scheme: dict[str, list[Call]] = {}
        for name in names:
            call = self._held.find("put", name)
            by_scheme.setdefault(_scheme(call), []).append(call)
        for calls in by_scheme.values():
            self._transport(calls[0]).sync(calls)

    def close(self) -> None:
        """Let go of files and connections. The next call opens new ones."""
        with self._lock:
            transports, self._transports = self._transports, {}
            for transport in transports.values():
                self._used = self._used.plus(transport.counters())
        for transport in transports.values():
            transport.close()

    def counters(self) -> Counters:
        """What all of it has sent and received over networks so far; nothing where there was none."""
        with self._lock:
            used = self._used
            for transport in self._transports.values():
                used = used.plus(transport.counters())
        return used

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _do(self, verb: Verb, name: str, action: Callable[[Transport, Call], T]) -> T:
        if self._ask is not None:
            self._see_to(verb, name)
        call = self._find(verb, name)
        if self._ask is not None and call.url.startswith(_TUNNEL):
            return self._through_tunnel(verb, name, action)
        try:
            return action(self._transport(call), call)
        except GrantExpired:  # by the store's clock, perhaps
            if self._ask is None:
                raise
            self._get_fresh(verb, name, call)
        call = self._find(verb, name)
        return action(self._transport(call), call)

    def _through_tunnel(self, verb: Verb, name: str, action: Callable[[Transport, Call], T]) -> T:
        """At the other end is a control side. When nothing is heard from it, another one may hold a tunnel at another port by now, because
        what is left of the first still has this one: the answer to a question tells."""
        silence, end = self._options.silence, monotonic() + self._options.deadline
        again = expired = False
        while True:
            call = self._find(verb, name)
            left = end - monotonic()
            try:
                return action(self._transport(call), call._replace(patience=min(silence, max(left, 0.1)), again=again))
            except StorageUnavailable as error:
                if expired if isinstance(error, GrantExpired) else left < silence or not error.retryable:
                    raise
                expired = isinstance(error, GrantExpired)
            again = True
            self._get_fresh(verb, name, call)

    def _get_fresh(self, verb: Verb, name: str, call: Call) -> None:
        with self._asking:
            if self._find(verb, name) == call:  # nobody got a fresh one meanwhile
                self._get_more(verb, name, needed=True)

    def _look(self, name: str) -> Call | None:
        try:
            return self._find("get", name)
        except NotGranted:
            return None

    def _find(self, verb: Verb, name: str) -> Call:
        with self._lock:
            return self._held.find(verb, name)

    def _see_to(self, verb: Verb, name: str) -> None:
        """Get a grant for `name` if there is none, or a fresh one if it is time; in vain, the old one must do while it lasts.

        Who has one that is valid waits for nobody: the control side may take minutes to answer.
        """
        check_name(name)
        lasts, valid = self._state(verb, name)
        if lasts or not self._asking.acquire(blocking=not valid):
            return
        try:
            lasts, valid = self._state(verb, name)  # another thread may have asked meanwhile
            if not lasts and not (valid and self._clock.now() < self._quiet):
                self._get_more(verb, name, needed=not valid)
        except TorporError:
            self._quiet = self._clock.now() + QUIET
            if not valid:
                raise
        finally:
            self._asking.release()

    def _state(self, verb: Verb, name: str) -> tuple[bool, bool]:
        """Whether a grant for `name` has most of its life to come, and whether there is one at all."""
        with self._lock:
            now = self._clock.now()
            return self._held.lasts(verb, name, now), self._held.is_valid(verb, name, now)

    def _get_more(self, verb: Verb, name: str, *, needed: bool) -> None:
        from torpor.jobs import Ask

        if self._ask is None:
            raise RuntimeError("nobody to ask")
        names = self.more(verb, name)
        self.renew(self._ask(Ask(put=names, needed=needed) if verb == "put" else Ask(get=names, needed=needed)))

    def _transport(self, call: Call) -> Transport:
        scheme = _scheme(call)
        with self._lock:
            if scheme not in self._transports:
                if scheme not in TRANSPORTS:
                    raise UsageError(
                        f"This host's torpor cannot reach storage by {scheme}: requests.",
                        remedy="Install the control side's version of torpor on the host.",
                    )
                module, name = TRANSPORTS[scheme]
                self._transports[scheme] = getattr(import_module(module), name)(self._options)
            return self._transports[scheme]


def _scheme(call: Call) -> str:
    return call.url.partition(":")[0].lower()


def check_expiry(call: Call, now: float) -> None:
    """For transports to places that cannot refuse by themselves."""
    if call.expires and now >= call.expires:
        raise GrantExpired(f"The grant for {call.name} has run out.", remedy="The control side renews a running job's grant by itself.")

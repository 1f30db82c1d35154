"""From a wish to a machine that answers: offers in turn, each under a lease, until one boots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Literal

import msgspec

from torpor.clock import SYSTEM, Clock
from torpor.control import leases, places
from torpor.control.home import Home
from torpor.control.leases import Book
from torpor.errors import Interrupted, MachineError, MissingDependency, TorporError, UsageError
from torpor.events import Event, Listener
from torpor.machines.base import Ambiguous, BidTooLow, HostIdentity, Machine, OfferGone, Provider, Status
from torpor.machines.lease import Lease
from torpor.machines.table import open_provider, providers
from torpor.plan import regions
from torpor.plan.offers import Offer, Ranking, Wish, lasts, rank
from torpor.settings import Settings
from torpor.ssh import keys

BOOT = 480.0  # seconds for a machine to boot; images take minutes on slow links, hours on hopeless ones
ATTEMPTS = 5  # offers that are tried before giving up
LEASE = 4 * 3600.0  # seconds that a machine may live before it is handed over
_POLL = (1.0, 2.0, 3.0, 5.0)  # seconds between looks at a machine that boots; providers' clients keep their own limits besides

Pause = Callable[[float], None]


class Market:
    """What could be rented now: the ranking over all providers asked, and those that could not be asked, with why.

    Several machines may be rented from one market at once, each by its own thread.
    """

    def __init__(self, ranking: Ranking, silent: dict[str, str]) -> None:
        self.ranking = ranking
        self.silent = silent
        self._lock = threading.Lock()
        self._taken: set[tuple[str, str]] = set()

    def untaken(self) -> Iterator[Offer]:
        """Offers to try, best first; none that is one machine and was tried for another thread."""
        for offer in self.ranking.best:
            with self._lock:
                if (offer.kind, offer.id) in self._taken:
                    continue
                if offer.single:
                    self._taken.add((offer.kind, offer.id))
            yield offer


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`boot`, `lease` in seconds. What a machine may cost before it is handed over is a part of the wish."""

    boot: float = BOOT
    lease: float = LEASE
    attempts: int = ATTEMPTS


class Provisioned(msgspec.Struct, frozen=True):
    """A machine that runs, under a lease. `tried`: offers that did not work out, in words. `seconds`: until it answered."""

    machine: Machine
    provider: Provider
    lease: Lease
    offer: Offer
    deadline: float
    tried: list[str]
    seconds: float


def market(settings: Settings, wish: Wish, kinds: Sequence[str] = (), clock: Clock = SYSTEM) -> Market:
    """Ask every provider (or those of `kinds`) what it offers. Raises `MachineError` if none could be asked, `UsageError` for a region
    that is none."""
    regions.countries(wish.region)
    offers: list[Offer] = []
    silent: dict[str, str] = {}
    asked = kinds or list(providers())
    for kind in asked:
        try:
            offers += open_provider(kind, places.ground(settings, clock)).offers(wish)
        except (MachineError, MissingDependency, UsageError) as error:
            if kinds and isinstance(error, UsageError):
                raise
            silent[kind] = error.what
    if silent and len(silent) == len(asked):
        raise MachineError(
            f"No offer could be asked for: {'; '.join(f'{kind}: {why}' for kind, why in silent.items())}",
            safe="Nothing was rented.",
            remedy="Set VAST_API_KEY, or Google's credentials, or name a machine that exists with --on.",
        )
    return Market(rank(wish, offers), silent)


class Demand:
    """A wish, and the market for it: asked for once, when the first of several threads wants it. That nobody could be asked is told to all.

    `kinds`: of providers; empty: all of them.
    """

    def __init__(self, settings: Settings, wish: Wish, kinds: Sequence[str] = ()) -> None:
        self.wish = wish
        self._settings = settings
        self._kinds = kinds
        self._lock = threading.Lock()
        self._found: Market | TorporError | None = None

    def market(self) -> Market:
        with self._lock:
            if self._found is None:
                try:
                    self._found = market(self._settings, self.wish, self._kinds)
                except TorporError as error:
                    self._found = error
            if isinstance(self._found, TorporError):
                raise self._found
            return self._found


def provision(
    settings: Settings, wish: Wish, market: Market, limits: Limits, listen: Listener, *, clock: Clock = SYSTEM, pause: Pause = time.sleep
) -> Provisioned:
    """Rent the best offer that works out. Raises `MachineError` when none did; nothing that was made on the way is left, or the error
    and a note say what could not be ended."""
    if not market.ranking.best:
        raise _nothing(market)
    tried: list[str] = []
    book = Book(Home(settings.home), clock)
    for offer in islice(market.untaken(), limits.attempts):
        began = time.monotonic()
        provider = open_provider(offer.kind, places.ground(settings, clock))
        # The label is all that another computer knows, so what may be spent has to be in it.
        lease = book.take_out(offer.kind, min(limits.lease, lasts(wish, offer)), wish.spend, provider.account)
        _note(listen, f"{_describe(offer)}: renting")
        try:
            machine = provider.rent(offer, lease, wish, _identity(settings))
        except Ambiguous:
            raise  # something may live: the record stays for sweep
        except (OfferGone, BidTooLow) as error:
            book.ended(lease, error.what)
            tried.append(f"{_describe(offer)}: {error.what}")
            _note(listen, f"{error.what} Taking the next offer.")
            continue
        try:
            book.made(lease, machine.address, offer.price)
            until_running(machine, clock, pause, min(lease.until, clock.now() + limits.boot), listen)
        except Interrupted as error:
            left = leases.end_quietly(machine, book, lease, clock, "stopped while it booted")
            raise Interrupted(
                f"The run was stopped while {machine.address} booted.",
                safe=left or f"{machine.address} was destroyed again: nothing is left that costs.", remedy="Run it again.",
            ) from error  # fmt: skip
        except MachineError as error:
            why = leases.end_quietly(machine, book, lease, clock, error.what)
            tried.append(f"{_describe(offer)}: {error.what}{f' {why}' if why else ''}")
            try:
                _note(listen, f"{error.what} {why or 'It was destroyed.'} Taking the next offer.", "warning" if why else "info")
            except BaseException as stop:
                leases.tell(stop, why)
                raise
            continue
        except BaseException as error:
            leases.tell(error, leases.end_quietly(machine, book, lease, clock, "stopped while it booted"))
            raise
        return Provisioned(machine, provider, lease, offer, lease.until, tried, time.monotonic() - began)
    raise MachineError(
        f"None of {len(tried)} offers worked out: {'; '.join(tried)}" if tried else "All offers that fit were taken for other machines.",
        safe="The snapshots are untouched; what was rented on the way was ended, unless it says otherwise above.",
        remedy="Try again, ask for less, or allow a higher price.",
    )


def until_running(machine: Machine, clock: Clock, pause: Pause, until: float, listen: Listener) -> Status:
    """Wait for a machine that was made. Raises `MachineError` when it never will run, or not in time."""
    last = ""
    waits = chain(_POLL[:-1], repeat(_POLL[-1]))
    while True:
        status = machine.status()
        if status.state == "running":
            return status
        if status.detail != last:
            last = status.detail
            _note(listen, f"{machine.address}: {status.state}{f', {last}' if last else ''}")
        if status.state != "starting":
            raise MachineError(f"{machine.address} is {status.state} instead of starting{f': {last}' if last else ''}.")
        if clock.now() >= until:
            raise MachineError(f"{machine.address} did not boot in time{f': {last}' if last else ''}.")
        pause(next(waits))


def fail(settings: Settings, made: Provisioned, why: str, clock: Clock = SYSTEM) -> str:
    """End a machine that was not handed over; in words, why it could not be ended, empty if it was."""
    return leases.end_quietly(made.machine, Book(Home(settings.home), clock), made.lease, clock, why)


def keep(settings: Settings, made: Provisioned, clock: Clock = SYSTEM) -> None:
    """Hand the machine over to whoever asked for it."""
    leases.hand_over(made.provider, Book(Home(settings.home), clock), made.machine.address, made.lease, clock)


def _identity(settings: Settings) -> HostIdentity:
    """A host key for one machine; and this home's login key."""
    pair = keys.make()
    login = settings.access.get("TORPOR_SSH_KEY")
    path = Path(login).expanduser() if login else keys.login_key(Home(settings.home).machines)
    return HostIdentity(pair.private, pair.public, keys.public_of(path.read_text(encoding="ascii")))


def _describe(offer: Offer) -> str:
    what = f"{offer.gpus} x {offer.gpu}" if offer.gpus else "CPU"
    return f"{offer.kind} {offer.id} ({what}, {offer.place or offer.country or 'somewhere'}, ${offer.price:.3f}/h)"


def _nothing(market: Market) -> MachineError:
    why = "; ".join(f"{lost.offer.kind} {lost.offer.id}: {lost.why}" for lost in market.ranking.lost[:5])
    silent = "".join(f"; {kind} could not be asked: {why.rstrip('.')}" for kind, why in market.silent.items())
    return MachineError(
        f"No offer fits{f'; {len(market.ranking.lost)} do not: {why}' if why else ''}{silent}.",
        safe="Nothing was rented.",
        remedy="Ask for less, allow a higher price, or look at `torpor offers`.",
    )


def _note(listen: Listener, text: str, level: Literal["info", "warning"] = "info") -> None:
    listen(Event(kind="note", at=0.0, level=level, text=text))

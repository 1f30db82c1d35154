"""One computer that rents machines at the emulated vast.ai."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.emulators.vast.server import Vast
from torpor.clock import FakeClock
from torpor.control import leases, provision
from torpor.control.home import Home
from torpor.control.leases import Book, Found
from torpor.control.provision import Limits, Provisioned
from torpor.events import Event
from torpor.plan.offers import Wish
from torpor.settings import Settings

WISH = Wish(gpu="RTX 4090")
HOUR = 3600.0


class Office:
    """One computer that rents at the emulated service. Another has another `home`."""

    def __init__(self, home: Path, vast: Vast, clock: FakeClock) -> None:
        self.settings = Settings(home=home, storage="memory:", access=vast.accounts)
        self.vast, self.clock = vast, clock
        self.heard: list[str] = []

    @property
    def book(self) -> Book:
        return Book(Home(self.settings.home), self.clock)

    def rent(self, **limits: float) -> Provisioned:
        def hear(event: Event) -> None:
            self.heard.append(event.text)

        market = provision.market(self.settings, WISH, ("vast",), self.clock)
        chosen = Limits(**limits)  # type: ignore[arg-type]
        return provision.provision(self.settings, WISH, market, chosen, hear, clock=self.clock, pause=self.clock.advance)

    def sweep(self, *, dry_run: bool = False) -> list[Found]:
        return list(leases.sweep(self.settings, self.clock, dry_run=dry_run, kinds=("vast",)))

    def die(self) -> None:
        """The process that took the leases out is gone."""
        for record in self.book.all():
            self.book._write(msgspec.structs.replace(record, owner="1:0"))

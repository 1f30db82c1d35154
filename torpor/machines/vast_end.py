"""The end of an instance, seen: what is destroyed at vast.ai is looked for afterwards, and destroyed again while it is there."""

from __future__ import annotations

from collections.abc import Callable

from torpor.clock import Clock
from torpor.errors import MachineError
from torpor.machines.vast_client import Client, Pause
from torpor.machines.vast_errors import VastBusy, VastDenied, VastGone, VastRefused, VastSilent

ENDING = 180.0  # seconds in which a destroyed instance must be gone
_LOOKS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before each look for it; after the last it is destroyed once more
_CONSOLE = "https://cloud.vast.ai/instances/"


def end(client: Client, instance: str, name: str, clock: Clock, pause: Pause, first: Callable[[], None] | None = None) -> None:
    """Destroy it, until neither asking for it nor the list shows it. Raises `MachineError` if it lives on, or nobody knows; and what
    `first` raises, which is called before each request to destroy it."""
    until = clock.now() + ENDING
    trouble: MachineError | None = None
    while True:
        try:
            client.destroy(instance, first)
            trouble = None
        except VastGone:
            trouble = None
        except (VastSilent, VastBusy, VastRefused) as error:
            trouble = error
        except VastDenied as error:
            raise _alive(name, error) from error
        for seconds in _LOOKS:
            pause(seconds)
            try:
                if _is_gone(client, instance):
                    return
            except (VastSilent, VastBusy) as error:
                trouble = error
            if clock.now() >= until:
                raise _alive(name, trouble) from trouble


def _is_gone(client: Client, instance: str) -> bool:
    return client.show(instance) is None and not any(str(one.get("id")) == instance for one in client.instances())


def _alive(name: str, trouble: MachineError | None) -> MachineError:
    if trouble is None:
        what = f"vast.ai said that {name} is destroyed, and it is still there: IT IS STILL BILLED."
    else:
        what = f"{name} could not be seen gone, so IT MAY STILL BE BILLED: {trouble.what}"
    return MachineError(what, safe="The snapshots are untouched.", remedy=f"Run the command again, or end it by hand: {_CONSOLE}")

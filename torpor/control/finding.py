"""What a check found: one line with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from torpor.errors import Interrupted, StorageUnavailable, TorporError
from torpor.storage.base import GrantExpired

State = Literal["ok", "warn", "fail"]


class Check(msgspec.Struct, frozen=True):
    """One finding. `figures`: what was measured, for programs."""

    name: str
    state: State
    text: str
    remedy: str = ""
    figures: dict[str, float] | None = None


def failed(name: str, error: TorporError) -> Check:
    """What an error says, as a finding."""
    return Check(name, "fail", error.what, error.remedy)


def one_by_one(steps: dict[str, Callable[[], Iterator[Check]]]) -> Iterator[Check]:
    """The findings of each step. One that fails hides no other, unless the store does not answer any more: that error is raised."""
    for name, step in steps.items():
        try:
            yield from step()
        except Interrupted:
            raise
        except TorporError as error:
            if isinstance(error, StorageUnavailable) and error.retryable and not isinstance(error, GrantExpired):
                raise
            yield failed(name, error)

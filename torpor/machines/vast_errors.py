"""What vast.ai answers that is no success, as errors: what is certain after each, and what is not."""

from __future__ import annotations

from typing import Any

from torpor.errors import MachineError


class VastDenied(MachineError):
    """The account's key is missing, wrong, or may not do this."""


class VastGone(MachineError):
    """There is no such thing, or not any more: of an instance 404 or `no_such_instance`, of an offer 404 or 410."""


class VastBusy(MachineError):
    """Too many requests, for longer than it made sense to wait. Nothing was done."""

    retryable = True


class VastQuota(MachineError):
    """The searches of this day are used up; there are new ones from 00:00 UTC on. Nothing was done."""


class VastSilent(MachineError):
    """No answer, a broken one, or the service says that it is broken: nobody knows whether it was done.

    `sent`: whether the request can have arrived."""

    retryable = True
    sent = True


class VastRefused(MachineError):
    """It says no. `answer`: what came with that, since it can name an instance that was made all the same; `code`: its short word."""

    answer: dict[str, Any]
    code: str

    def __init__(self, what: str, *, safe: str = "", remedy: str = "", answer: dict[str, Any] | None = None) -> None:
        super().__init__(what, safe=safe, remedy=remedy)
        self.answer = answer or {}
        self.code = str(self.answer.get("error", ""))


class NeverBoots(MachineError):
    """The machine does not get to run: an image that does not start, a GPU that is not free, or the time is over. Take another."""

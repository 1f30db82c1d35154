"""What Google's client raises, as torpor's errors. A message holds a status and Google's word for it, never a token or metadata."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from torpor.errors import MachineError, TorporError, UsageError
from torpor.machines.base import OfferGone

if TYPE_CHECKING:
    from collections.abc import Iterator

CREDENTIALS = "Set GOOGLE_APPLICATION_CREDENTIALS to the JSON file of a service account's key (docs/machines.md)."
AGAIN = "Asking again does no harm: every request has a number that Google knows it by."

_TITLE = "Google Compute Engine"
_ROLE = "Give the service account the role Compute Instance Admin (v1), and turn the Compute Engine API on (docs/machines.md)."
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,60}")
_BUSY = ("rateLimitExceeded", "userRateLimitExceeded", "concurrentOperationQuotaExceeded")
_RESOURCE = re.compile(r"'projects/[^']*/instances/[^'/]+(?:/[^']*)?'")


class GceUnavailable(MachineError):
    """Google did not answer, or asks to come again. Whether a request took effect is not known."""

    retryable = True


class GceRefused(MachineError):
    """Google will not do it: the credentials, the project or the request are wrong."""


class GceFailed(MachineError):
    """Google began, and could not do it, for reasons of its own."""

    retryable = True


class GceNotThere(MachineError):
    """There is no instance of that name."""


class GceTaken(MachineError):
    """There is an instance of that name already."""


class GceChanged(MachineError):
    """Somebody else changed it at the same time."""


class GceQuota(OfferGone):
    """The project may not have that much there. Nothing was made."""


@contextmanager
def asking(doing: str, what: str) -> Iterator[None]:
    """Raise Google's errors as torpor's. `doing` is a verb, `what` the address, or the project."""
    try:
        yield
    except TorporError:
        raise
    except Exception as error:
        if not isinstance(error, _kinds()):
            raise
        raise _translated(doing, what, error) from None


def failed(doing: str, what: str, code: str, message: str) -> MachineError:
    """The error for an operation that ended with one. `code`: such as `ZONE_RESOURCE_POOL_EXHAUSTED`."""
    word = code if _WORD.fullmatch(code) else "an error"
    said = f"{_TITLE} could not {doing} {what}: {word}."
    if code.startswith(("ZONE_RESOURCE_POOL_EXHAUSTED", "RESOURCE_POOL_EXHAUSTED")) or "STOCKOUT" in code:
        return OfferGone(
            said, safe="Nothing was made.", remedy="That zone has none left just now. Take another zone or type, or try later."
        )
    if "QUOTA" in code:
        return _over_quota(said)
    if code in ("RESOURCE_NOT_FOUND", "NOT_FOUND") and _RESOURCE.search(message):
        return GceNotThere(f"{what} is not there.")
    if code in ("INTERNAL_ERROR", "RESOURCE_NOT_READY", "BACKEND_ERROR", "RESOURCE_OPERATION_RATE_EXCEEDED"):
        return GceFailed(said, safe="Look at it before you rely on it.", remedy="Try again.")
    return GceRefused(said, safe="Look at it before you rely on it.", remedy="Google's console tells more, under the zone's operations.")


def answered(doing: str, what: str, error: Any) -> MachineError:
    """The error for what the service answered. `error`: a `GoogleAPICallError`."""
    status, (reason, text) = int(error.code or 0), _told(error)
    said = f"{_TITLE} answered {status}{' ' + reason if reason else ''} when asked to {doing} {what}."
    if status == 404 and _of_an_instance(text):
        return GceNotThere(f"{what} is not there.", remedy="Names of machines are kept in Google's console, and by `torpor sweep`.")
    if status == 404:
        return GceRefused(said, remedy="Check the project, the zone and the image that were named.")
    if status == 409:
        return GceTaken(said, remedy="Take another name.")
    if status == 412:
        return GceChanged(said, remedy="Try again.")
    if status >= 500 or status in (408, 429) or reason in _BUSY:
        return GceUnavailable(said, safe=AGAIN, remedy="Try again later.")
    if "quota" in reason.lower():
        return _over_quota(said)
    if status == 400 and "does not exist in zone" in text:
        return OfferGone(said, safe="Nothing was made.", remedy="That zone has no such type. Take another.")
    if status == 401:
        return GceRefused(said, remedy=CREDENTIALS)
    if status == 403:
        return GceRefused(said, remedy=_ROLE)
    return GceRefused(said, remedy="Check the address and the settings that begin with GCE_ (docs/machines.md).")


def _over_quota(said: str) -> GceQuota:
    return GceQuota(
        said,
        safe="Nothing was made.",
        remedy="The project's quota is used up there. Ask Google for more (IAM & Admin, Quotas), or take another region or type.",
    )


@cache
def _kinds() -> tuple[type[Exception], ...]:
    """What Google's client raises; imported once it did."""
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.protobuf.json_format import ParseError

    return (GoogleAPIError, GoogleAuthError, ParseError, requests.RequestException, urllib3.exceptions.HTTPError, OSError)


def _translated(doing: str, what: str, error: BaseException) -> TorporError:
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    if isinstance(error, api.GoogleAPICallError):
        return answered(doing, what, error)
    if isinstance(error, auth.DefaultCredentialsError):
        return UsageError(f"{_TITLE} needs credentials, and none were found.", remedy=CREDENTIALS)
    if isinstance(error, auth.GoogleAuthError) and not isinstance(error, auth.TransportError) and not getattr(error, "retryable", False):
        return GceRefused("Google's token service did not accept the credentials.", remedy=CREDENTIALS)
    if isinstance(error, auth.GoogleAuthError):
        return GceUnavailable("Google's token service did not answer.", safe="Nothing was changed.", remedy="Try again later.")
    if isinstance(error, requests.exceptions.SSLError):
        return GceRefused(f"{_TITLE} has no certificate that this computer trusts.", remedy="Check GCE_ENDPOINT and this network.")
    if type(error).__name__ == "ParseError":
        return GceUnavailable(f"{_TITLE} answered with no JSON when it was asked to {doing} {what}.", safe=AGAIN, remedy="Try again later.")
    return GceUnavailable(
        f"The connection to {_TITLE} failed when it was asked to {doing} {what}.", safe=AGAIN, remedy="Check the network, and try again."
    )


def _of_an_instance(text: str) -> bool:
    """Whether a 404 is about the instance. One that names another resource, such as the project, tells nothing of it."""
    return "'projects/" not in text or _RESOURCE.search(text) is not None


def _told(error: Any) -> tuple[str, str]:
    """Google's own word for it, such as `quotaExceeded`, and its sentence, which is not shown. Empty where the answer has none."""
    text = str(error.message or "")[:2000]
    try:
        reason = str(error.errors[0]["reason"])
    except (AttributeError, KeyError, IndexError, TypeError):
        return "", text
    return reason if _WORD.fullmatch(reason) else "", text

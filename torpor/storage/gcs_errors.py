"""What Google's client raises, as torpor's errors. A message holds a status and Google's word for it, never a token or a URL."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from torpor.errors import NotFound, StorageUnavailable, TorporError, UsageError
from torpor.storage.base import Exists, Missing, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torpor.storage.gcs_place import Place

AS_IT_WAS = "What is stored is as it was."
UNKNOWN = "Whether the request took effect is unknown; asking again does no harm."

_TITLE = "Google Cloud Storage"
_CREDENTIALS = "Set GOOGLE_APPLICATION_CREDENTIALS to the JSON file of a service account's key (docs/providers.md)."
_ROLE = "Give the service account the role Storage Object User on the bucket, and see docs/providers.md."
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,60}")


class PastEnd(StorageUnavailable):
    """A range begins where the object ends, or later."""


@contextmanager
def asking(place: Place, doing: str, name: str = "") -> Iterator[None]:
    """Raise Google's errors as torpor's. `doing` is a verb: what was being done with the object, or with the bucket if there is no name."""
    try:
        yield
    except TorporError:
        raise
    except Exception as error:
        if not isinstance(error, _kinds()):
            raise
        raise _translated(place, doing, name, error) from None


@cache
def _kinds() -> tuple[type[Exception], ...]:
    """What Google's client raises; imported once it did."""
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    unanswered = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
    return (GoogleAPIError, InvalidResponse, DataCorruption, GoogleAuthError, *unanswered)


def answered(place: Place, doing: str, name: str, error: Any) -> TorporError:
    """The error for what the service answered. `error`: a `GoogleAPICallError`."""
    status = int(error.code or 0)
    reason, text = _told(error)
    said = f"{_TITLE} answered {status}{' ' + reason if reason else ''} when asked to {doing} {name or f'bucket {place.bucket}'}."
    if status == 404 and (not name or "bucket does not exist" in text):
        return NotFound(f"{_TITLE} has no bucket {place.bucket}.", remedy="Create it, or correct the storage URL.")
    if status == 404:
        return Missing(f"{place.url} has no {name}.")
    if status == 416:
        return PastEnd(said, safe=AS_IT_WAS)
    if status == 412:
        return Exists(f"{place.url} already has {name}.")
    if status >= 500 or status in (408, 429):
        return StorageUnavailable(said, safe=UNKNOWN, remedy="Try again later; it was tried several times.")
    if status == 401:
        return Refused(said, safe=AS_IT_WAS, remedy=_CREDENTIALS)
    if status == 403 and ("etention" in reason + text or "under active" in text):
        return Refused(said, safe=AS_IT_WAS, remedy="The bucket keeps objects for a time. Take the hold or retention policy off, or wait.")
    if status == 403 and "billing" in (reason + text).lower():
        return Refused(said, safe=AS_IT_WAS, remedy="The project's billing account is off. Turn it on in Google's console.")
    if status == 403:
        return Refused(said, safe=AS_IT_WAS, remedy=_ROLE)
    if status == 400 and "hash" in text and "match" in text:
        return StorageUnavailable(f"{said} The bytes changed on the way.", safe=AS_IT_WAS, remedy="Try again.")
    return Refused(said, safe=AS_IT_WAS, remedy="Check the storage URL and the settings that belong to it (docs/providers.md).")


def _translated(place: Place, doing: str, name: str, error: BaseException) -> TorporError:
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    cause: BaseException | None = error
    if isinstance(error, api.RetryError):
        cause = error.cause
    if isinstance(cause, InvalidResponse):
        cause = api.from_http_status(cause.response.status_code, "", response=cause.response)
    if isinstance(cause, api.GoogleAPICallError):
        return answered(place, doing, name, cause)
    if isinstance(cause, auth.TransportError):
        return StorageUnavailable("Google's token service cannot be reached.", safe=AS_IT_WAS, remedy=_network("network"))
    if isinstance(cause, auth.GoogleAuthError):
        return _not_authenticated(cause)
    what = f"{doing} {name or f'bucket {place.bucket}'}"
    if isinstance(cause, DataCorruption):
        return StorageUnavailable(f"{_TITLE} sent other bytes than it says, asked to {what}.", safe=AS_IT_WAS, remedy="Try again.")
    if isinstance(cause, requests.exceptions.SSLError):
        return Refused(f"{place.endpoint} has no certificate that this computer trusts.", safe=AS_IT_WAS, remedy="Check the endpoint.")
    if isinstance(cause, requests.exceptions.ConnectTimeout) or "NewConnectionError" in repr(cause):
        return StorageUnavailable(f"{place.endpoint} cannot be reached.", safe=AS_IT_WAS, remedy=_network("storage URL and network"))
    return StorageUnavailable(f"The connection to {place.endpoint} failed, asked to {what}.", safe=UNKNOWN, remedy="Try again.")


def _not_authenticated(error: Exception) -> TorporError:
    from google.auth.exceptions import DefaultCredentialsError

    if isinstance(error, DefaultCredentialsError):
        return UsageError(f"{_TITLE} needs credentials, and none were found.", remedy=_CREDENTIALS)
    if getattr(error, "retryable", False):
        return StorageUnavailable("Google's token service did not answer.", safe=AS_IT_WAS, remedy="Try again later.")
    return Refused(
        "Google's token service did not accept the credentials.",
        safe=AS_IT_WAS,
        remedy=f"The key may be deleted or the account disabled, or this computer's clock may be wrong. {_CREDENTIALS}",
    )


def _network(what: str) -> str:
    return f"Check the {what} of this computer, and try again."


def _told(error: Any) -> tuple[str, str]:
    """Google's own word for it, such as `forbidden`, and its sentence; empty where the answer has none. The sentence is not shown."""
    response: Any = error.response
    try:
        told = response.json()["error"]
        reason = str(told["errors"][0]["reason"])
        return reason if _REASON.fullmatch(reason) else "", str(told["message"])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return "", str(getattr(response, "text", "") or error.message or "")[:1000]

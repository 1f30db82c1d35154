"""What boto3 raises, as torpor's errors. A message holds the service's code and names of settings, never a URL with a signature."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from torpor.errors import NoSpace, NotFound, StorageUnavailable, TorporError, UsageError
from torpor.storage.base import Exists, Missing, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torpor.storage.s3_place import Place

AS_IT_WAS = "What is stored is as it was."
UNKNOWN = "Whether the request took effect is unknown; asking again does no harm."

T = TypeVar("T")

_REPEATS = 4
_TEMPORARY = {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "TooManyRequests"}
_DIGESTS = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_REGION = {"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect", "301", "307"}
_CODE = re.compile(r"[A-Za-z0-9._-]{1,60}")


class Conflict(StorageUnavailable):
    """Another conditional write of the same name was under way."""


class Broken(StorageUnavailable):
    """The connection ended inside an answer."""


class Unsupported(Refused):
    """The service does not know such a request."""


@contextmanager
def asking(place: Place, doing: str, name: str = "") -> Iterator[None]:
    """Raise boto3's errors as torpor's. `doing` is a verb: what was being done with the object, or with the bucket if there is no name."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise answered(place, doing, name, error.response) from None
    except BotoCoreError as error:
        raise _unanswered(place, doing, name, error) from None
    except (AttributeError, KeyError, ResponseParserError, TypeError, ValueError) as error:  # of boto3, for an answer that is no answer
        raise StorageUnavailable(
            f"What {place.profile.title} answered cannot be read.",
            safe=UNKNOWN,
            remedy="Check the endpoint of the storage URL, and try again.",
        ) from error


def repeat(call: Callable[[], T], again: type[StorageUnavailable] | tuple[type[StorageUnavailable], ...] = Broken) -> T:
    """Call once more, a few times, after an error of that kind. Each request has tries of its own below this, but boto3 gives up at
    once where the connection ends inside an answer."""
    for _ in range(_REPEATS):
        try:
            return call()
        except again:
            continue
    return call()


def code_of(response: dict[str, Any]) -> str:
    """The code of an answer that is an error, or its status; nothing but plain letters, digits and signs."""
    code = str(response.get("Error", {}).get("Code") or "")
    return code if _CODE.fullmatch(code) else str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "an unknown error"))


def answered(place: Place, doing: str, name: str, response: dict[str, Any]) -> TorporError:
    """The error for what the service answered."""
    code = code_of(response)
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    title, what = place.profile.title, name or f"bucket {place.bucket}"
    said = f"{title} answered {code} when asked to {doing} {what}."
    key, secret = place.profile.key[0], place.profile.secret[0]
    if code == "NoSuchBucket":
        return NotFound(f"{title} has no bucket {place.bucket}.", remedy="Create it, or correct the storage URL.")
    if code in ("NoSuchKey", "404", "NotFound"):
        return Missing(f"{place.url} has no {name}.")
    if code in ("PreconditionFailed", "412"):
        return Exists(f"{place.url} already has {name}.")
    if code == "ConditionalRequestConflict" or (status == 409 and code == "409"):
        return Conflict(said, safe=AS_IT_WAS, remedy="Another writer was at the same name. Try again.")
    if code == "RequestTimeTooSkewed":
        return Refused(said, safe=AS_IT_WAS, remedy=f"Set this computer's clock{_skew(response)}, for instance with NTP, and try again.")
    if code in ("SignatureDoesNotMatch", "InvalidAccessKeyId"):
        wrong = "the secret does not belong to the key" if code == "SignatureDoesNotMatch" else "there is no such key"
        return Refused(f"{said} That means: {wrong}.", safe=AS_IT_WAS, remedy=f"Correct {key} and {secret}.")
    if code in _EXPIRED:
        return Refused(said, safe=AS_IT_WAS, remedy="The temporary credentials have run out. Get fresh ones and start again.")
    if code in _REGION or status in (301, 307):
        return Refused(said, safe=AS_IT_WAS, remedy="The bucket lies in another region. Write ?region=… into the storage URL.")
    if status == 507 or "cap exceeded" in str(response.get("Error", {}).get("Message", "")).lower() or code == "QuotaExceeded":
        return NoSpace(said, safe=AS_IT_WAS, remedy="Raise the limit of the account, or free space with: torpor prune.")
    if code == "InvalidObjectState":
        return Refused(said, safe="The object is there.", remedy="It lies in an archive class. Restore it there, then try again.")
    if code in _DIGESTS:
        return StorageUnavailable(f"{said} The bytes changed on the way.", safe=AS_IT_WAS, remedy="Try again.")
    if status in (405, 501):
        return Unsupported(said, safe=AS_IT_WAS, remedy="Name the service with ?provider=… or switch ?conditional=no in the storage URL.")
    if status >= 500 or status in (408, 409, 429) or code in _TEMPORARY:
        return StorageUnavailable(said, safe=UNKNOWN, remedy="Try again later; it was tried several times.")
    if status == 403:
        return Refused(
            said, safe=AS_IT_WAS, remedy=f"Let {key} list the bucket, and read, write and delete its objects (docs/providers.md)."
        )
    return Refused(said, safe=AS_IT_WAS, remedy="Check the storage URL and the settings that belong to it (docs/providers.md).")


def _unanswered(place: Place, doing: str, name: str, error: Exception) -> TorporError:
    """The error for what ended before, or inside, an answer."""
    from botocore import exceptions

    at = place.endpoint or place.profile.title
    what = f"{doing} {name or f'bucket {place.bucket}'}"
    key, secret = place.profile.key[0], place.profile.secret[0]
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError | exceptions.ProfileNotFound):
        return UsageError(f"{place.profile.title} needs {key} and {secret}, and none were found.", remedy=f"Set {key} and {secret}.")
    if isinstance(error, exceptions.CredentialRetrievalError | exceptions.TokenRetrievalError | exceptions.SSOError):
        return UsageError(
            f"The credentials for {place.profile.title} could not be fetched.", remedy=f"Log in again, or set {key} and {secret}."
        )
    if isinstance(error, exceptions.SSLError):
        return Refused(
            f"{at} has no certificate that this computer trusts.", safe=AS_IT_WAS, remedy="Check the endpoint, and AWS_CA_BUNDLE."
        )
    if isinstance(error, exceptions.ResponseStreamingError | exceptions.IncompleteReadError):
        return Broken(f"{at} ended its answer early, asked to {what}.", safe=UNKNOWN, remedy="Try again.")
    if isinstance(error, exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError | exceptions.ProxyConnectionError):
        return StorageUnavailable(
            f"{at} cannot be reached.",
            safe=AS_IT_WAS,
            remedy="Check the endpoint of the storage URL and this computer's network, and try again.",
        )
    if isinstance(error, exceptions.ReadTimeoutError):
        return Broken(f"{at} went silent, asked to {what}.", safe=UNKNOWN, remedy="Try again.")
    if isinstance(error, exceptions.HTTPClientError | exceptions.PaginationError):
        return Broken(f"The connection to {at} failed, asked to {what}.", safe=UNKNOWN, remedy="Try again.")
    return Refused(
        f"{place.profile.title} could not be asked to {what} ({type(error).__name__}).",
        safe=AS_IT_WAS,
        remedy="Check the storage URL (docs/providers.md).",
    )


def _skew(response: dict[str, Any]) -> str:
    """How far this computer's clock is from the service's, by the answer's date."""
    from email.utils import parsedate_to_datetime

    from torpor.clock import SYSTEM

    try:
        date = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return ""
    seconds = SYSTEM.now() - date.timestamp()
    return f" {'back' if seconds > 0 else 'forward'} by {abs(seconds) / 60:.0f} minutes" if abs(seconds) >= 60 else ""

"""What b2sdk raises, as torpor's errors. None of b2sdk's own text is passed on: it can hold tokens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from b2sdk.v3 import exception as b2

from torpor import errors
from torpor.storage.base import Missing, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    Verb = Literal["open", "read", "write", "list", "delete", "grant"]

ABSENT: type[Exception] = b2.BucketIdNotFound.__base__  # of every 404; b2sdk.v3 has no name for it

NEEDED = "listBuckets, listFiles, readFiles, shareFiles, writeFiles, deleteFiles, writeKeys and deleteKeys"
CAPS = "Raise it under Caps & Alerts of the Backblaze account"

_KEY = "Check B2_KEY_ID and B2_APPLICATION_KEY; a key that was deleted or ran out needs a new one."
_ALLOWED = f"Use an application key for all buckets and names, with the capabilities {NEEDED}."
_LATER = "Run the command again; if this lasts, look at Backblaze's status page."
_KINDS: tuple[tuple[tuple[type[Exception], ...], type[errors.TorporError], str, str], ...] = (
    ((b2.InvalidAuthToken,), Refused, "the application key is not valid", _KEY),
    ((b2.EmailNotVerified, b2.NoPaymentHistory), Refused, "the account is not ready", "Verify its e-mail address and payment."),
    ((b2.Unauthorized, b2.NotAllowedByAppKeyError), Refused, "the application key does not allow it", _ALLOWED),
    ((b2.RestrictedBucket,), Refused, "the application key is for another bucket", _ALLOWED),
    ((b2.AccessDenied,), Refused, "a file lock or the account's rules forbid it", "Look at its Object Lock."),
    ((b2.NonExistentBucket, b2.BucketIdNotFound), Refused, "there is no such bucket", "Create it, or correct the URL."),
    ((b2.StorageCapExceeded,), errors.NoSpace, "the account's storage cap is reached", f"{CAPS}, or remove snapshots and prune."),
    ((b2.CapExceeded,), Refused, "a daily cap of the account is reached", f"{CAPS}, or wait for midnight UTC."),
    ((b2.ClockSkew, b2.BadDateFormat), Refused, "this machine's clock differs from the service's", "Set the clock."),
    ((b2.InvalidJsonResponse,), Refused, "what answered does not speak B2's native API", "Correct ?realm= in the storage URL."),
    ((b2.TooManyRequests,), errors.StorageUnavailable, "it is asked too often", _LATER),
    ((b2.ServiceError, b2.RequestTimeout), errors.StorageUnavailable, "the service is busy", _LATER),
    ((b2.B2ConnectionError, b2.B2RequestTimeout, b2.BrokenPipe, b2.ConnectionReset, b2.UnknownHost), errors.StorageUnavailable,
     "the connection failed", "Check the network, then run the command again."),
    ((b2.UnknownError,), errors.StorageUnavailable, "the answer made no sense", _LATER),
)  # fmt: skip


@contextmanager
def asking(verb: Verb, what: str, where: str) -> Iterator[None]:
    """`with asking("read", name, url):` the one place where an error of b2sdk becomes an error of torpor."""
    try:
        yield
    except b2.B2Error as error:
        raise translate(error, verb, what, where) from None


def translate(error: b2.B2Error, verb: Verb, what: str, where: str) -> errors.TorporError:
    """`Missing` for a read of an absent object; else what the table says; else `Refused`."""
    if verb == "read" and isinstance(error, ABSENT):
        return Missing(f"{where} has no {what}.")
    doing = f"Cannot {verb} {what} in {where}" if what else f"Cannot {verb} {where}"
    if isinstance(error, b2.Unauthorized) and error.code in ("email_not_verified", "no_payment_history"):
        error = b2.NoPaymentHistory("", "")  # b2sdk gave its own class for them away when it added what the key allows
    elif isinstance(error, ABSENT) and verb == "open" and not isinstance(error, b2.NonExistentBucket):
        error = b2.InvalidJsonResponse(b"")
    elif isinstance(error, b2.UnknownError) and "cap_exceeded" in str(error):  # codes that b2sdk has no class for
        error = b2.StorageCapExceeded() if verb == "write" else b2.CapExceeded()
    for classes, kind, why, remedy in _KINDS:
        if isinstance(error, classes):
            return kind(f"{doing}: {why}.", remedy=remedy)
    return Refused(f"{doing}: {type(error).__name__}.", remedy="Check the storage URL; else report this as a defect.")

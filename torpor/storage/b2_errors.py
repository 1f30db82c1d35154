"""What b2sdk raises, as torpor's errors. None of b2sdk's own text is passed on: it can hold tokens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from torpor import errors
from torpor.storage.base import Missing, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b2sdk.v3.exception import B2Error

    Verb = Literal["open", "read", "write", "list", "delete", "grant"]

NEEDED = "listBuckets, listFiles, readFiles, shareFiles, writeFiles, deleteFiles, writeKeys and deleteKeys"
CAPS = "Raise it under Caps & Alerts of the Backblaze account"

_KEY = "Check B2_KEY_ID and B2_APPLICATION_KEY; a key that was deleted or ran out needs a new one."
_ALLOWED = f"Use an application key for all buckets and names, with the capabilities {NEEDED}."
_LATER = "Run the command again; if this lasts, look at Backblaze's status page."
# By the names of b2sdk's classes, bases among them: b2sdk.v3 does not export them all, and what is optional is imported late.
KINDS: tuple[tuple[tuple[str, ...], type[errors.TorporError], str, str], ...] = (
    (("InvalidAuthToken",), Refused, "the application key is not valid", _KEY),
    (("EmailNotVerified", "NoPaymentHistory"), Refused, "the account is not ready", "Verify its e-mail address and payment."),
    (("Unauthorized", "NotAllowedByAppKeyError"), Refused, "the application key does not allow it", _ALLOWED),
    (("RestrictedBucket",), Refused, "the application key is for another bucket", _ALLOWED),
    (("AccessDenied",), Refused, "a file lock or the account's rules forbid it", "Look at its Object Lock."),
    (("NonExistentBucket", "BucketIdNotFound"), Refused, "there is no such bucket", "Create it, or correct the URL."),
    (("StorageCapExceeded",), errors.NoSpace, "the account's storage cap is reached", f"{CAPS}, or remove snapshots and prune."),
    (("CapExceeded",), Refused, "a daily cap of the account is reached", f"{CAPS}, or wait for midnight UTC."),
    (("ClockSkew", "BadDateFormat"), Refused, "this machine's clock differs from the service's", "Set the clock."),
    (("InvalidJsonResponse",), Refused, "what answered does not speak B2's native API", "Correct ?realm= in the storage URL."),
    (("TooManyRequests",), errors.StorageUnavailable, "it is asked too often", _LATER),
    (("ServiceError", "RequestTimeout"), errors.StorageUnavailable, "the service is busy", _LATER),
    (("B2ConnectionError", "B2RequestTimeout", "BrokenPipe", "ConnectionReset", "UnknownHost"), errors.StorageUnavailable,
     "the connection failed", "Check the network, then run the command again."),
    (("UnknownError",), errors.StorageUnavailable, "the answer made no sense", _LATER),
)  # fmt: skip


@contextmanager
def asking(verb: Verb, what: str, where: str) -> Iterator[None]:
    """`with asking("read", name, url):` the one place where an error of b2sdk becomes an error of torpor."""
    from b2sdk.v3.exception import B2Error

    try:
        yield
    except B2Error as error:
        raise translate(error, verb, what, where) from None


def is_kind(error: BaseException, *names: str) -> bool:
    """Whether the error is of one of b2sdk's classes of these names."""
    return not {cls.__name__ for cls in type(error).__mro__}.isdisjoint(names)


def translate(error: B2Error, verb: Verb, what: str, where: str) -> errors.TorporError:
    """`Missing` for a read of an absent object; else what the table says; else `Refused`."""
    if verb == "read" and is_kind(error, "ResourceNotFound"):
        return Missing(f"{where} has no {what}.")
    doing = f"Cannot {verb} {what} in {where}" if what else f"Cannot {verb} {where}"
    also = _also(error, verb)
    for names, kind, why, remedy in KINDS:
        if also in names or (not also and is_kind(error, *names)):
            return kind(f"{doing}: {why}.", remedy=remedy)
    return Refused(f"{doing}: {type(error).__name__}.", remedy="Check the storage URL; else report this as a defect.")


def _also(error: B2Error, verb: Verb) -> str:
    """The name of a class that says more than the one that b2sdk chose; empty if there is none."""
    if is_kind(error, "Unauthorized") and error.code in ("email_not_verified", "no_payment_history"):
        return "NoPaymentHistory"  # b2sdk gave it away when it added what the key allows
    if verb == "open" and is_kind(error, "ResourceNotFound") and not is_kind(error, "NonExistentBucket"):
        return "InvalidJsonResponse"
    if is_kind(error, "UnknownError") and "cap_exceeded" in str(error):
        return "StorageCapExceeded" if verb == "write" else "CapExceeded"
    return ""

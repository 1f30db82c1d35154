"""Google's client for one endpoint and one account. The library is imported here, when it is first needed: 4 s and 170 MB."""

from __future__ import annotations

import json
import threading
from functools import lru_cache
from importlib import import_module
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from torpor.errors import UsageError
from torpor.machines.gce_errors import CREDENTIALS

if TYPE_CHECKING:
    from torpor.access import Access

FILE = "GOOGLE_APPLICATION_CREDENTIALS"
ENDPOINT = "GCE_ENDPOINT"

_SCOPES = ("https://www.googleapis.com/auth/compute",)
_KINDS = {
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "impersonated_service_account": ("google.auth.impersonated_credentials", "from_impersonated_service_account_info"),
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
}
_LOCK = threading.Lock()


class Services(NamedTuple):
    """The two clients, with the same options, and what the status of an operation is at its end.

    An operation is waited for with `operations`: what `insert` and its like return waits at Google's own address, whatever the endpoint.
    """

    instances: Any
    operations: Any
    done: Any


def services(accounts: Access) -> Services:
    """The clients that these accounts name; shared by all who name the same. Raises `UsageError`, and Google's own errors."""
    with _LOCK:
        return _services(endpoint(accounts), accounts.get(FILE))


def endpoint(accounts: Access) -> str:
    """Empty for Google's own. Without TLS only on this computer, since every request has a token."""
    text = accounts.get(ENDPOINT)
    try:
        url = urlsplit(text)
        safe = not text or url.scheme == "https" or (url.scheme == "http" and ip_address(url.hostname or "").is_loopback)
    except ValueError:
        safe = False
    if not safe:
        raise UsageError(f"{ENDPOINT} is no address to send credentials to.", remedy="Write https://HOST, or unset it.")
    return text


@lru_cache(maxsize=8)
def _services(url: str, file: str) -> Services:
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    if url.startswith("http:"):
        credentials: Any = AnonymousCredentials()
    else:
        credentials = _from_file(file) if file else _default()
    compute_v1 = import_module("google.cloud.compute_v1")  # its types are 35 MB, which a type checker need not read
    options = ClientOptions(api_endpoint=url or None)
    return Services(
        compute_v1.InstancesClient(credentials=credentials, client_options=options),
        compute_v1.ZoneOperationsClient(credentials=credentials, client_options=options),
        compute_v1.Operation.Status.DONE,
    )


def _default() -> Any:
    import google.auth

    return google.auth.default(scopes=_SCOPES)[0]


def _from_file(path: str) -> Any:
    """The credentials in a file of Google's. `UsageError` tells what is wrong, and nothing that stands in it."""
    from google.auth.exceptions import GoogleAuthError

    try:
        with open(path, "rb") as stream:
            info = json.load(stream)
    except OSError as error:
        raise UsageError(f"The file that {FILE} names cannot be read: {error.strerror}.", remedy=CREDENTIALS) from None
    except ValueError:
        raise UsageError(f"The file that {FILE} names is no JSON.", remedy=CREDENTIALS) from None
    try:
        module, method = _KINDS[info["type"]]
        return getattr(import_module(module).Credentials, method)(info, scopes=_SCOPES)
    except (GoogleAuthError, AttributeError, KeyError, TypeError, ValueError):
        raise UsageError(f"The file that {FILE} names holds no credentials of a kind that is known.", remedy=CREDENTIALS) from None

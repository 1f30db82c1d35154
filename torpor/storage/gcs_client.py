"""Google's own client: whose credentials it takes, how long it waits, how often it tries again."""

from __future__ import annotations

import json
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torpor.errors import UsageError
from torpor.storage.gcs_errors import asking
from torpor.storage.gcs_sign import Signer

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

    from torpor.access import Access
    from torpor.storage.gcs_place import Place

FILE = "GOOGLE_APPLICATION_CREDENTIALS"
TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two bytes
FIRST = 0.25  # seconds until a request that failed is tried again, at most; twice as long each time
PATIENCE = 120.0  # seconds after which a request that keeps failing is not tried again

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_KINDS = {
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "impersonated_service_account": ("google.auth.impersonated_credentials", "from_impersonated_service_account_info"),
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
}
_CONNECTIONS = 32  # kept open


class Client:
    """One bucket through `google.cloud.storage`. Credentials are looked for at the first use. For any number of threads."""

    def __init__(self, place: Place, access: Access, patience: float = PATIENCE) -> None:
        from google.cloud.storage.retry import DEFAULT_RETRY

        self._place = place
        self._file = access.get(FILE)
        self._lock = threading.Lock()
        self._client: Any = None
        self._credentials: Any = None
        self.options: dict[str, Any] = {
            "timeout": TIMEOUT,
            "retry": DEFAULT_RETRY.with_delay(initial=FIRST, maximum=16.0, multiplier=2.0).with_timeout(patience),
        }

    @property
    def service(self) -> Any:
        """The library's client. It knows no project: objects need none. Raises its own errors; so does `bucket`."""
        return self._opened()

    @property
    def bucket(self) -> Any:
        return self.service.bucket(self._place.bucket)

    def signer(self) -> Signer:
        """`UsageError` where the credentials cannot sign by themselves."""
        with asking(self._place, "sign requests to"):
            self._opened()
        from google.auth.credentials import Signing

        if not isinstance(self._credentials, Signing) or not self._credentials.signer_email:
            raise UsageError(
                "The credentials that were found for Google Cloud Storage cannot sign URLs, and a host gets nothing else.",
                safe="Nothing was written.",
                remedy=f"Make a key of a service account, and set {FILE} to its JSON file (docs/providers.md).",
            )
        return Signer(self._place.endpoint, self._credentials.signer_email, self._credentials.sign_bytes)

    def _opened(self) -> Any:
        import google.auth
        from google.cloud import storage

        with self._lock:
            if self._client is None:
                self._credentials = _from_file(self._file) if self._file else google.auth.default(scopes=_SCOPES)[0]
                self._client = storage.Client(
                    project=None,
                    credentials=self._credentials,
                    client_options={"api_endpoint": self._place.endpoint},
                    _http=_session(self._credentials),
                )
                # The cache is filled by a thread of its own, with a call that needs a right that torpor does not ask for.
                self._client._bucket_metadata_cache = None  # noqa: SLF001
            return self._client


def _from_file(path: str) -> Any:
    """The credentials in a file of Google's. `UsageError` tells what is wrong, and nothing that stands in it."""
    from google.auth.exceptions import GoogleAuthError

    remedy = f"Set {FILE} to the JSON file of a service account's key (docs/providers.md)."
    try:
        with open(path, "rb") as stream:
            info = json.load(stream)
    except OSError as error:
        raise UsageError(f"The file that {FILE} names cannot be read: {error.strerror}.", remedy=remedy) from None
    except ValueError:
        raise UsageError(f"The file that {FILE} names is no JSON.", remedy=remedy) from None
    try:
        module, method = _KINDS[info["type"]]
        return getattr(import_module(module).Credentials, method)(info, scopes=_SCOPES)
    except (GoogleAuthError, AttributeError, KeyError, TypeError, ValueError):
        raise UsageError(f"The file that {FILE} names holds no credentials of a kind that is known.", remedy=remedy) from None


def _session(credentials: Any) -> AuthorizedSession:
    from google.auth.transport.requests import AuthorizedSession
    from requests.adapters import HTTPAdapter

    session = AuthorizedSession(credentials, refresh_timeout=60)
    session.hooks["response"].append(_read_error)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return session


def _read_error(response: Any, **options: Any) -> None:
    """Of a download that is refused the library reads no body, and its connection would be lost."""
    del options
    if response.status_code >= 400:
        _ = response.content

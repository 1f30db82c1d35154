"""Whose credentials are sent, and where to; what is told when they fail, and what never is. Google's library is loaded late."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.architecture.house import python
from torpor.access import Access
from torpor.errors import TorporError, UsageError
from torpor.machines.base import Ground
from torpor.machines.gce import GceMachine
from torpor.machines.gce_errors import GceRefused, GceUnavailable, asking
from torpor.machines.gce_login import endpoint, services

NAME = "torpor-tests/us-central1-a/gpu-1"
LATE = """
import sys
from pathlib import Path
from torpor.access import Access
from torpor.machines.base import Ground
from torpor.machines.table import open_machine, open_provider
from torpor.plan.offers import Wish
ground = Ground(Path("none"), Access({"GCE_PROJECT": "torpor-tests"}))
open_machine("gce:torpor-tests/us-central1-a/gpu-1", ground)
assert open_provider("gce", ground).offers(Wish(gpus=0))
print(sorted(name for name in sys.modules if name.split(".")[0] in ("google", "requests", "grpc", "urllib3")))
"""


def test_google_is_loaded_once_it_is_asked() -> None:
    assert python(LATE).strip() == "[]"


@pytest.mark.parametrize("url", ["", "https://compute.example", "http://127.0.0.1:8080", "http://[::1]:8080"])
def test_where_credentials_may_go(url: str) -> None:
    assert endpoint(Access({"GCE_ENDPOINT": url})) == url


@pytest.mark.parametrize("url", ["http://compute.example", "http://10.0.0.1", "ftp://127.0.0.1", "compute.example", "http://", "http://["])
def test_where_they_may_not(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="GCE_ENDPOINT"):
        GceMachine(NAME, Ground(tmp_path, Access({"GCE_ENDPOINT": url}))).status()


@pytest.mark.parametrize(
    "text", [None, "{", "[]", '"x"', '{"type": "odd"}', '{"type": "service_account", "private_key": "SECRET", "client_email": "a@b"}']
)
def test_files_that_hold_no_credentials(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        GceMachine(NAME, Ground(tmp_path, Access({"GOOGLE_APPLICATION_CREDENTIALS": str(file)}))).status()
    assert "SECRET" not in str(caught.value) + repr(caught.value.__context__ or "")


def test_a_users_own_credentials(tmp_path: Path) -> None:
    """Of `gcloud auth application-default login`; nothing is sent before the first request."""
    file = tmp_path / "user.json"
    file.write_text(json.dumps({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"}))
    accounts = Access({"GOOGLE_APPLICATION_CREDENTIALS": str(file), "GCE_ENDPOINT": "https://127.0.0.1:9"})
    found = services(accounts)
    assert found is services(Access({"GCE_ENDPOINT": "https://127.0.0.1:9", "GOOGLE_APPLICATION_CREDENTIALS": str(file)}))
    assert found.instances.api_endpoint == found.operations.api_endpoint == "https://127.0.0.1:9"


def test_errors_of_the_library() -> None:
    """As the library raises them, since no server of a test can make it."""
    import requests
    from google.api_core.exceptions import Unauthorized
    from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

    kinds: list[tuple[Exception, type[TorporError]]] = [
        (Unauthorized("Invalid Credentials token=SECRET"), GceRefused),
        (DefaultCredentialsError("none"), UsageError),
        (RefreshError("invalid_grant SECRET"), GceRefused),
        (TransportError("no route"), GceUnavailable),
        (requests.exceptions.SSLError("certificate verify failed"), GceRefused),
        (requests.exceptions.ReadTimeout("60 s"), GceUnavailable),
    ]
    for raised, kind in kinds:
        with pytest.raises(TorporError) as caught, asking("look at", "gce:x"):
            raise raised
        assert type(caught.value) is kind
        assert caught.value.remedy
        assert "SECRET" not in str(caught.value)
    with pytest.raises(ZeroDivisionError), asking("look at", "gce:x"):
        raise ZeroDivisionError

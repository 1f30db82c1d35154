"""What a host can do with the URLs it is given, asked of the server itself: its own library would refuse sooner."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3
from blake3 import blake3
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2 import service_account

from tests.emulators.gcs import Gcs
from tests.emulators.gcs_service import Stored
from torpor.access import Access
from torpor.clock import SYSTEM, FakeClock
from torpor.errors import Damaged, UsageError
from torpor.jobs import Request
from torpor.storage.gcs import GcsStore
from torpor.storage.gcs_place import parse
from torpor.storage.gcs_sign import Signer
from torpor.storage.transfer import Transfer

FOLDER = "packs/20260801T120000000-0a1b2c3d/"
NAME = FOLDER + "89abcdef-0"
SHORT = NAME.removeprefix("packs/")
CONDITION = "x-goog-if-generation-match"


class Field:
    def __init__(self, gcs: Gcs, clock: FakeClock) -> None:
        self.gcs, self.clock = gcs, clock
        place = parse(f"gs://{gcs.bucket}/home?endpoint={gcs.url}")
        self.store = GcsStore(place, Access({"GOOGLE_APPLICATION_CREDENTIALS": str(gcs.credentials_file)}), clock)
        self.pool = urllib3.PoolManager(retries=False)

    def put(self, seconds: float = 3600) -> Request:
        return self.store.grant_put(FOLDER, self.clock.now() + seconds, [NAME]).put[SHORT]

    def get(self, seconds: float = 3600) -> Request:
        return self.store.grant_get([NAME], self.clock.now() + seconds).get[SHORT]

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, str]:
        """Status and, of an error, the service's word for it."""
        answer = self.pool.request(method, url, body=body or None, headers=headers)
        text = answer.data.decode(errors="replace")
        return answer.status, text.partition("<Code>")[2].partition("<")[0]

    @property
    def data(self) -> dict[str, bytes]:
        return {name: stored.data for name, stored in self.gcs.objects.items()}


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    clock = FakeClock(int(SYSTEM.now()))  # Google's library dates its tokens by the real one
    with Gcs(tmp_path, clock) as gcs:
        field = Field(gcs, clock)
        yield field
        field.pool.clear()


def test_a_host_writes_what_it_was_granted_once(field: Field) -> None:
    request = field.put()
    assert (request.method, request.digest, request.headers) == ("PUT", "md5", {CONDITION: "0"})
    answer = field.pool.request("PUT", request.url, body=b"first", headers=request.headers)
    assert answer.status == 200
    assert base64.b64encode(hashlib.md5(b"first").digest()).decode() in answer.headers["x-goog-hash"]
    assert field.send("PUT", request.url, request.headers, b"second") == (412, "PreconditionFailed")
    assert field.data == {"home/" + NAME: b"first"}


def test_bytes_that_changed_on_the_way_are_noticed(field: Field) -> None:
    write = field.gcs.service.write

    def changed(name: str, data: bytes, match: str | None, md5: str | None, metadata: Mapping[str, str] | None = None) -> Stored:
        return write(name, data + b"!", match, md5, metadata)

    field.gcs.service.write = changed  # type: ignore[method-assign]
    with Transfer(field.store.grant_put(FOLDER, 0, [NAME]), clock=field.clock) as transfer, pytest.raises(Damaged, match="other bytes"):
        transfer.put(SHORT, [b"12345"], blake3(b"12345").digest())


def test_a_host_cannot_take_the_condition_off(field: Field) -> None:
    field.store.put(NAME, b"there")
    request = field.put()
    generation = str(field.gcs.objects["home/" + NAME].generation)
    assert field.send("PUT", request.url, {}, b"mine") == (400, "MalformedSecurityHeader")
    assert field.send("PUT", request.url, {CONDITION: generation}, b"mine") == (403, "SignatureDoesNotMatch")
    without = request.url.replace("%3Bx-goog-if-generation-match", "")
    assert field.send("PUT", without, {}, b"mine") == (403, "SignatureDoesNotMatch")
    assert field.data == {"home/" + NAME: b"there"}


@pytest.mark.parametrize("header", ["x-goog-copy-source", "x-goog-acl", "x-goog-meta-a", "x-goog-metadata-directive", "content-md5"])
def test_a_host_cannot_add_an_order(field: Field, header: str) -> None:
    request = field.put()
    assert field.send("PUT", request.url, {**request.headers, header: "x"}, b"mine") == (400, "MalformedSecurityHeader")
    assert field.data == {}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_a_grant_to_write_does_nothing_else(field: Field, method: str) -> None:
    field.store.put(NAME, b"there")
    request = field.put()
    status, _ = field.send(method, request.url, request.headers)
    assert status == 403
    assert field.data == {"home/" + NAME: b"there"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_a_grant_to_read_changes_nothing(field: Field, method: str) -> None:
    field.store.put(NAME, b"there")
    request = field.get()
    assert field.send("GET", request.url, {}) == (200, "")
    assert field.send("GET", request.url, {"Range": "bytes=1-2"}) == (206, "")
    status, _ = field.send(method, request.url, {}, b"mine")
    assert status == 403
    assert field.data == {"home/" + NAME: b"there"}


@pytest.mark.parametrize("other", [FOLDER + "89abcdef-1", "packs/other/a", "config.json", "snapshots/a.json", ""])
def test_a_grant_is_for_one_name(field: Field, other: str) -> None:
    field.store.put("config.json", b"secret")
    for request in (field.put(), field.get()):
        url = request.url.replace("/home/" + NAME, "/home/" + other if other else "")
        assert field.send(request.method, url, request.headers, b"mine" if request.method == "PUT" else b"") == (
            403,
            "SignatureDoesNotMatch",
        )
    assert field.data == {"home/config.json": b"secret"}


def test_a_host_has_no_token_for_the_rest_of_the_service(field: Field) -> None:
    field.store.put(NAME, b"there")
    query = urlsplit(field.put().url).query
    for path in ("/storage/v1/b/torpor-tests/o", "/upload/storage/v1/b/torpor-tests/o", "/batch/storage/v1"):
        for method in ("GET", "POST", "DELETE"):
            assert field.send(method, f"{field.gcs.url}{path}?{query}", {})[0] == 401
    for path in ("/torpor-tests", "/torpor-tests/home/" + NAME):
        assert field.send("GET", field.gcs.url + path, {}) == (403, "AccessDenied")


def test_requests_end_with_their_grant(field: Field) -> None:
    field.store.put(NAME, b"there")
    put, get = field.put(60), field.get(60)
    field.clock.advance(59)
    assert field.send("GET", get.url, {})[0] == 200
    field.clock.advance(1)
    assert field.send("GET", get.url, {}) == (400, "ExpiredToken")
    assert field.send("PUT", put.url, put.headers, b"late") == (400, "ExpiredToken")
    longer = get.url.replace("X-Goog-Expires=60", "X-Goog-Expires=6000")
    assert field.send("GET", longer, {}) == (403, "SignatureDoesNotMatch")


def test_what_is_over_when_it_is_granted_is_refused(field: Field) -> None:
    field.store.put(NAME, b"there")
    assert field.send("GET", field.get(-1000).url, {}) == (400, "ExpiredToken")
    assert field.send("GET", field.get(0).url, {}) == (400, "ExpiredToken")


@pytest.mark.parametrize("expires", [0.0, 4e9])
def test_a_grant_lasts_seven_days_at_most(field: Field, expires: float) -> None:
    grant = field.store.grant_get([NAME], expires)
    assert grant.expires == field.clock.now() + 7 * 24 * 3600
    assert "X-Goog-Expires=604800&" in grant.get[SHORT].url


def test_names_outside_the_prefix_are_not_granted(field: Field) -> None:
    with pytest.raises(UsageError):
        field.store.grant_put(FOLDER, 0, [NAME, "packs/20260802T120000000-4e5f6071/89abcdef-0"])
    assert field.store.grant_put(FOLDER, 0).put == {}


def test_signatures_are_those_of_googles_own_library(field: Field) -> None:
    credentials = service_account.Credentials.from_service_account_file(str(field.gcs.credentials_file))
    signer = Signer("https://storage.googleapis.com", credentials.signer_email, credentials.sign_bytes)
    for method, headers in [("GET", {}), ("PUT", {CONDITION: "0"}), ("PUT", {"x-goog-b": "2", "X-Goog-A": " a  b "})]:
        own = signer.url(method, "/bucket/home/a~b/c d.e", 1_800_000_000.5, 4321, headers)
        theirs = generate_signed_url_v4(
            credentials,
            resource="/bucket/home/a~b/c%20d.e",
            expiration=4321,
            method=method,
            headers=dict(headers),
            api_access_endpoint="https://storage.googleapis.com",
            _request_timestamp="20270115T080000Z",
        )
        assert own == theirs

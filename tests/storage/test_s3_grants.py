"""What a host can do with a grant of the S3 family, whatever it sends: asked of the server, without torpor's own transport."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator

import pytest
import urllib3

from tests.emulators.rclone import Rclone
from tests.emulators.s3 import Object, S3Emulator
from torpor.access import Access
from torpor.errors import UsageError
from torpor.storage.base import BadName, Store
from torpor.storage.sigv4 import LONGEST
from torpor.storage.table import open_store

SNAPSHOT = "20260801T120000000-0a1b2c3d"
PREFIX = f"packs/{SNAPSHOT}/"
NAME, OTHER, OLD = (f"{PREFIX}89abcdef-{number}" for number in range(3))
PROFILES = ["aws", "r2", "wasabi", "b2"]


@pytest.fixture(params=PROFILES)
def s3(request: pytest.FixtureRequest) -> Iterator[S3Emulator]:
    with S3Emulator(request.param) as emulator:
        emulator.objects[OLD] = Object(b"old", time.time())
        yield emulator


@pytest.fixture
def store(s3: S3Emulator) -> Store:
    """The store, opened as the service that the emulator plays."""
    return opened(s3)


def opened(s3: S3Emulator, provider: str = "") -> Store:
    access = Access({"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret})
    return open_store(f"s3://{s3.bucket}?endpoint={s3.url}&provider={provider or s3.profile}", access)


def ask(method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    with urllib3.PoolManager() as pool:
        answer = pool.request(method, url, body=body or None, headers=headers, retries=False)
        return answer.status, answer.data


def test_a_grant_to_write_does_that_once(s3: S3Emulator, store: Store) -> None:
    grant = store.grant_put(PREFIX, 0, [NAME, OLD])
    request = grant.put[NAME.removeprefix("packs/")]
    assert (request.method, request.digest) == ("PUT", "md5")
    md5 = {"Content-MD5": base64.b64encode(hashlib.md5(b"new").digest()).decode()}
    assert ask("PUT", request.url, b"new", request.headers | md5)[0] == 403  # it was not signed, as S3 wants it
    assert ask("PUT", request.url, b"new", request.headers)[0] == 200
    assert s3.objects[NAME].data == b"new"
    again = grant.put[OLD.removeprefix("packs/")]
    status, _ = ask("PUT", again.url, b"other", again.headers)
    if store.capabilities.conditional_put:
        assert (status, s3.objects[OLD].data) == (412, b"old")
        assert ask("PUT", again.url, b"other")[0] == 403  # leaving out the condition, which is signed
        assert ask("PUT", again.url, b"other", {"If-None-Match": '"x"'})[0] == 403
        assert s3.objects[OLD].data == b"old"
    else:
        assert request.headers == {}  # docs/providers.md says what that means


def test_a_grant_to_write_does_nothing_else(s3: S3Emulator, store: Store) -> None:
    request = store.grant_put(PREFIX, 0, [NAME]).put[NAME.removeprefix("packs/")]
    before = dict(s3.objects)
    headers = request.headers
    attempts = [
        ask("PUT", request.url.replace(NAME, OTHER), b"x", headers),
        ask("PUT", request.url.replace(NAME, "config.json"), b"x", headers),
        ask("PUT", request.url.replace(NAME, f"packs/x/../../{OLD}"), b"x", headers),
        ask("GET", request.url, b"", headers),
        ask("GET", request.url.replace(NAME, OLD), b"", headers),
        ask("HEAD", request.url.replace(NAME, OLD), b"", headers),
        ask("DELETE", request.url.replace(NAME, OLD), b"", headers),
        ask("GET", request.url.replace("/" + NAME, ""), b"", headers),
        ask("GET", request.url.replace("/" + NAME, "") + "&list-type=2", b"", headers),
        ask("POST", request.url.replace("/" + NAME, "") + "&delete", b"<Delete/>", headers),
        ask("PUT", request.url + "&uploadId=1&partNumber=1", b"x", headers),
        ask("PUT", request.url, b"x", headers | {"x-amz-copy-source": f"/{s3.bucket}/{OLD}"}),
        ask("PUT", request.url, b"x", headers | {"x-amz-acl": "public-read"}),
        ask("PUT", request.url.replace("X-Amz-Expires=", "X-Amz-Expires=1"), b"x", headers),
        ask("PUT", request.url.partition("?")[0], b"x", headers),
    ]
    assert [status for status, _ in attempts if status not in (400, 403)] == []
    assert s3.objects == before


def test_a_grant_to_read_does_that_alone(s3: S3Emulator, store: Store) -> None:
    s3.objects["packs/x/secret"] = Object(b"secret", 0)
    request = store.grant_get([OLD], 0).get[OLD.removeprefix("packs/")]
    assert ask("GET", request.url) == (200, b"old")
    assert ask("GET", request.url, b"", {"Range": "bytes=1-1"}) == (206, b"l")
    assert ask("GET", request.url.replace(OLD, "packs/x/secret"))[0] == 403
    assert ask("PUT", request.url, b"x")[0] == 403
    assert ask("DELETE", request.url)[0] == 403
    assert s3.objects[OLD].data == b"old"


def test_the_server_refuses_a_grant_that_is_over(s3: S3Emulator, store: Store) -> None:
    for end in (1.0, time.time() - 1):
        grant = store.grant_put(PREFIX, end, [NAME])
        assert grant.expires == end
        request = grant.put[NAME.removeprefix("packs/")]
        status, body = ask("PUT", request.url, b"x", request.headers)
        assert (status, b"Request has expired" in body) == (403, True)
    request = store.grant_put(PREFIX, time.time() + 60, [NAME]).put[NAME.removeprefix("packs/")]
    s3.skew = 61
    assert ask("PUT", request.url, b"x", request.headers)[0] == 403
    s3.skew = 0
    assert ask("PUT", request.url, b"x", request.headers)[0] == 200


def test_a_grant_ends_when_its_signature_does(store: Store) -> None:
    for wanted in (0.0, time.time() + 2 * LONGEST):
        grant = store.grant_put(PREFIX, wanted, [NAME])
        assert abs(grant.expires - time.time() - LONGEST) < 100
    soon = time.time() + 500
    assert store.grant_get([NAME], soon).expires == soon


def test_only_packs_are_granted(store: Store) -> None:
    for names in (["config.json"], [PREFIX + "../x"], ["packs/x/y"]):
        with pytest.raises((UsageError, BadName)):
            store.grant_put(PREFIX, 0, names)
    assert store.grant_put(PREFIX, 0).put == {}


def test_temporary_credentials_sign_with_their_token() -> None:
    from tests.emulators.s3_auth import Key

    with S3Emulator("aws") as s3:
        s3.keys = {"ASIA": Key("temporary-secret", "token/+=")}
        access = Access({"AWS_ACCESS_KEY_ID": "ASIA", "AWS_SECRET_ACCESS_KEY": "temporary-secret", "AWS_SESSION_TOKEN": "token/+="})
        store = open_store(f"s3://{s3.bucket}?endpoint={s3.url}&provider=aws", access)
        request = store.grant_put(PREFIX, 0, [NAME]).put[NAME.removeprefix("packs/")]
        assert ask("PUT", request.url, b"x", request.headers)[0] == 200
        s3.keys = {"ASIA": Key("temporary-secret", "token/+=", 1.0)}
        assert b"ExpiredToken" in ask("PUT", request.url, b"x", request.headers)[1]
        assert not any("token" in repr(seen).lower() and "token/+=" in repr(seen) for seen in s3.requests)


def test_a_real_server_agrees(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "bucket" / PREFIX).mkdir(parents=True)
    (folder / "bucket" / OLD).write_bytes(b"old")
    with Rclone(folder) as server:
        access = Access({"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret})
        store = open_store(f"s3://bucket?endpoint={server.url}", access)
        put = store.grant_put(PREFIX, time.time() + 600, [NAME]).put[NAME.removeprefix("packs/")]
        over = store.grant_put(PREFIX, time.time() - 1, [NAME]).put[NAME.removeprefix("packs/")]
        assert ask("PUT", over.url, b"x")[0] in (400, 403)
        for method, url in [
            ("PUT", put.url.replace(NAME, OTHER)),
            ("GET", put.url.replace(NAME, OLD)),
            ("DELETE", put.url.replace(NAME, OLD)),
            ("GET", put.url.replace("/" + NAME, "")),
            ("PUT", put.url.replace("X-Amz-Signature=", "X-Amz-Signature=0")),
        ]:
            assert ask(method, url, b"x" if method == "PUT" else b"")[0] == 403
        assert ask("PUT", put.url, b"new")[0] == 200
    assert {path.name: path.read_bytes() for path in (folder / "bucket" / PREFIX).iterdir()} == {
        NAME[len(PREFIX) :]: b"new",
        OLD[len(PREFIX) :]: b"old",
    }

"""The S3 emulator itself: what it refuses, and that each fault is what it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.emulators.s3 import Object, S3Emulator
from tests.emulators.s3_faults import (
    Fault,
    error_document,
    lost_answer,
    reset_answer,
    reset_upload,
    script,
    slow,
    slow_down,
    stalled,
    truncated,
)

NAME = "packs/a b/ü+%.x"  # nothing torpor would use


@pytest.fixture
def s3() -> Iterator[S3Emulator]:
    with S3Emulator("aws") as emulator:
        yield emulator


def ask(
    s3: S3Emulator, method: str, path: str, body: bytes = b"", late: dict[str, str] | None = None, **changed: str
) -> urllib3.BaseHTTPResponse:
    """A request with a signature in its header. `late`: headers that are added after it was signed. Changes: `secret`, `region`."""
    request = AWSRequest(method, s3.url + path, data=body)
    S3SigV4Auth(Credentials(s3.key, changed.get("secret", s3.secret)), "s3", changed.get("region", "us-east-1")).add_auth(request)
    with urllib3.PoolManager() as pool:
        headers = dict(request.prepare().headers) | (late or {})
        return pool.request(method, s3.url + path, body=body, headers=headers, retries=False, timeout=30)


def test_boto3_finds_it_to_be_s3(s3: S3Emulator) -> None:
    s3.page = 2
    client = boto3.session.Session().client(
        "s3", endpoint_url=s3.url, region_name="us-east-1", aws_access_key_id=s3.key, aws_secret_access_key=s3.secret
    )
    names = [NAME, "a", "b/c", "b-c"]
    for name in names:
        client.put_object(Bucket="bucket", Key=name, Body=name.encode())
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    assert [found["Key"] for page in pages for found in page["Contents"]] == sorted(names)
    assert client.get_object(Bucket="bucket", Key=NAME)["Body"].read() == NAME.encode()
    assert client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": name} for name in names]}).get("Errors") is None
    assert s3.objects == {}
    assert not any(s3.key in repr(seen) or "Signature" in repr(seen) for seen in s3.requests)
    client.close()


def test_only_what_is_signed_well_is_done(s3: S3Emulator) -> None:
    assert ask(s3, "PUT", "/bucket/a", b"x").status == 200
    refused = [
        ask(s3, "PUT", "/bucket/b", b"x", secret="other"),
        ask(s3, "PUT", "/bucket/b", b"x", region="eu-west-1"),
        ask(s3, "PUT", "/bucket/b", b"x", late={"x-amz-acl": "public-read"}),
        ask(s3, "PUT", "/bucket/b", b"x", late={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
        ask(s3, "PUT", "/bucket/b", b"x", late={"Authorization": ""}),
        ask(s3, "PUT", "/bucket/b?acl", b"x"),
        ask(s3, "PUT", "/bucket/b?uploadId=1&partNumber=1", b"x"),
        ask(s3, "GET", "/other"),
    ]
    assert [answer.status for answer in refused] == [403, 400, 403, 403, 400, 501, 501, 404]
    assert set(s3.objects) == {"a"}


@pytest.mark.parametrize(
    ("fault", "broken", "applied"),
    [
        (slow_down(3), False, False),
        (error_document(), False, False),
        (Fault(500, applied=True), False, True),
        (lost_answer(), True, True),
        (reset_upload(10), True, False),
    ],
)
def test_faults_of_a_put(s3: S3Emulator, fault: Fault, broken: bool, applied: bool) -> None:
    s3.faults = script([fault], method="PUT", contains="/a")
    body = bytes(100_000)
    if broken:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            ask(s3, "PUT", "/bucket/a", body)
    else:
        answer = ask(s3, "PUT", "/bucket/a", body)
        assert answer.status == (fault.status or 200)
        assert b"<Error>" in answer.data
        assert answer.headers.get("Retry-After") == ("3" if fault.headers else None)
    assert ("a" in s3.objects) is applied
    assert ask(s3, "PUT", "/bucket/a", body).status == 200


@pytest.mark.parametrize("fault", [reset_answer(70_000), truncated(70_000)])
def test_faults_of_a_get(s3: S3Emulator, fault: Fault) -> None:
    s3.objects["a"] = Object(bytes(100_000), time.time())
    s3.faults = script([fault])
    with pytest.raises(urllib3.exceptions.ProtocolError):
        ask(s3, "GET", "/bucket/a")
    assert len(ask(s3, "GET", "/bucket/a").data) == 100_000


@pytest.mark.parametrize("after", [None, 0, 50_000])
def test_a_stalled_answer_waits_until_it_is_let_go(s3: S3Emulator, after: int | None) -> None:
    s3.objects["a"] = Object(bytes(100_000), time.time())
    go = threading.Event()
    s3.faults = script([stalled(go, after)])
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, s3, "GET", "/bucket/a")
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.3)
        go.set()
        assert len(answer.result(timeout=30).data) == 100_000


def test_a_slow_answer_is_slow(s3: S3Emulator) -> None:
    s3.objects["a"] = Object(bytes(200_000), time.time())
    s3.faults = script([slow(0.05)])
    begin = time.monotonic()
    assert len(ask(s3, "GET", "/bucket/a").data) == 200_000
    assert time.monotonic() - begin > 0.14  # three pauses


def test_an_emulator_ends_with_answers_that_stall() -> None:
    with S3Emulator("aws") as s3, ThreadPoolExecutor(1) as pool:
        s3.faults = script([stalled(threading.Event())])
        answer = pool.submit(ask, s3, "GET", "/bucket/a")
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.3)
        s3.close()
        assert answer.exception(timeout=30) is not None or answer.result().status == 404

"""Google Cloud Storage when something goes wrong: what is tried again, and what the user is told."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.emulators.gcs import LOST, Cut, Gcs
from tests.emulators.gcs_service import Refusal
from torpor.access import Access
from torpor.errors import NotFound, StorageUnavailable, TorporError, UsageError
from torpor.storage import gcs_client
from torpor.storage.base import Exists, Missing, Refused
from torpor.storage.gcs import GcsStore
from torpor.storage.gcs_place import parse

FILE = "GOOGLE_APPLICATION_CREDENTIALS"
BUSY = Refusal(503, "backendError", "Backend Error")
SLOWER = Refusal(429, "rateLimitExceeded", "The object exceeded the rate limit", headers={"Retry-After": "1"})


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcs]:
    monkeypatch.setattr(gcs_client, "FIRST", 0.01)
    with Gcs(tmp_path) as gcs:
        yield gcs


def make(gcs: Gcs, patience: float = 60.0, url: str = "", **access: str) -> GcsStore:
    given = {FILE: str(gcs.credentials_file)} | access
    return GcsStore(parse(url or f"gs://{gcs.bucket}/x?endpoint={gcs.url}"), Access(given), patience=patience)


@pytest.mark.parametrize("fault", [BUSY, SLOWER, LOST, Refusal(408, "timeout", "")], ids=["503", "429", "reset", "408"])
def test_what_passes_is_tried_again(gcs: Gcs, fault: Refusal | Cut) -> None:
    store = make(gcs)
    for operation in ("insert", "resumable", "resume", "get", "list", "media", "batch"):
        gcs.faults.add(operation, fault, fault)
    assert store.put("a", b"12345").size == 5
    big = bytes(9 << 20)
    assert store.put("b", big).size == len(big)
    assert [info.name for info in store.list()] == ["a", "b"]
    assert store.head("a") is not None
    assert store.get("a") == b"12345"
    assert store.delete(["a", "b"]) == 2
    assert gcs.faults.left == 0
    assert gcs.objects == {}


@pytest.mark.parametrize(("size", "operation"), [(5, "insert"), (9 << 20, "resumable"), (9 << 20, "resume")])
def test_a_lost_answer_does_not_make_a_put_lose_against_itself(gcs: Gcs, size: int, operation: str) -> None:
    store = make(gcs)
    gcs.faults.add(operation, LOST)
    info = store.put("a", bytes(size), if_absent=True)
    assert gcs.faults.left == 0
    assert store.head("a") == info
    with pytest.raises(Exists):
        store.put("a", bytes(size), if_absent=True)


def test_a_lost_answer_does_not_make_a_put_win_over_another(gcs: Gcs) -> None:
    """Even with the same bytes: who wrote them counts."""
    store = make(gcs)
    store.put("a", b"12345", if_absent=True)
    gcs.faults.add("insert", BUSY, LOST)
    with pytest.raises(Exists):
        store.put("a", b"12345", if_absent=True)


def test_a_read_goes_on_where_it_broke_off(gcs: Gcs) -> None:
    store = make(gcs)
    data = os.urandom(3 << 20)
    store.put("a", data)
    gcs.faults.add("media", Cut(1 << 20), Cut(1000), BUSY)
    assert store.get("a") == data
    gcs.faults.add("media", Cut(1 << 20), BUSY)
    out = bytearray(2 << 20)
    store.get_into("a", 1 << 20, memoryview(out))
    assert out == data[1 << 20 :]
    starts = [int(seen.headers.get("range", "bytes=0-")[6:].partition("-")[0]) for seen in gcs.seen("media")]
    assert starts[1] > 0
    assert starts == sorted(starts[:4]) + sorted(starts[4:])
    assert gcs.faults.left == 0


def test_a_read_does_not_mix_two_versions(gcs: Gcs) -> None:
    store = make(gcs)
    old, new = bytes(2 << 20), b"\1" * (2 << 20)
    store.put("a", old)
    gcs.faults.add("media", Cut(1 << 20))
    writer = make(gcs)
    take = gcs.faults.take

    def replaced(operation: str) -> Refusal | Cut | None:
        if operation == "media" and len(gcs.seen("media")) == 2:
            writer.put("a", new)
        return take(operation)

    gcs.faults.take = replaced  # type: ignore[method-assign]
    with pytest.raises((Missing, StorageUnavailable)):
        store.get("a")


def test_a_store_that_stays_busy_is_given_up_in_time(gcs: Gcs) -> None:
    store = make(gcs, patience=0.4)
    for operation in ("insert", "get", "list", "media", "batch"):
        gcs.faults.always[operation] = BUSY
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b"x"), lambda: store.put("a", b"x", if_absent=True), lambda: store.get("a"), lambda: store.head("a"),
        lambda: list(store.list()), lambda: store.delete(["a"]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StorageUnavailable, match="503") as caught:
            call()
        assert caught.value.retryable
        assert caught.value.remedy


def test_of_a_batch_only_what_failed_is_asked_again(gcs: Gcs) -> None:
    store = make(gcs)
    names = [f"a{number:03}" for number in range(150)]
    for name in names:
        store.put(name, b"")
    gcs.faults.add("batched delete", BUSY, SLOWER)
    assert store.delete(names) == 150
    assert gcs.objects == {}
    assert len(gcs.seen("batch")) == 3
    store.put("a", b"")
    gcs.faults.add("batched delete", Refusal(403, "retentionPolicyNotMet", "Object is subject to bucket's retention policy"))
    with pytest.raises(Refused, match="keeps objects for a time"):
        store.delete(["a"])


@pytest.mark.parametrize(
    ("refusal", "kind", "text"),
    [
        (Refusal(403, "forbidden", "x does not have storage.objects.create access"), Refused, "role Storage Object User"),
        (Refusal(403, "retentionPolicyNotMet", ""), Refused, "retention policy"),
        (Refusal(403, "accountDisabled", "The billing account is disabled"), Refused, "billing account"),
        (Refusal(400, "invalid", "Invalid argument"), Refused, "400 invalid"),
        (Refusal(400, "invalid", "Provided MD5 hash doesn't match"), StorageUnavailable, "changed on the way"),
        (Refusal(404, "notFound", "The specified bucket does not exist."), NotFound, "no bucket torpor-tests"),
    ],
)
def test_refusals_say_what_to_do(gcs: Gcs, refusal: Refusal, kind: type[TorporError], text: str) -> None:
    store = make(gcs)
    gcs.faults.add("insert", refusal)
    with pytest.raises(kind, match=text) as caught:
        store.put("a", b"x")
    assert type(caught.value) is kind
    assert gcs.objects == {}
    assert len(gcs.seen("insert")) == 1
    assert "Bearer" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_not_an_empty_one(gcs: Gcs) -> None:
    store = make(gcs, url=f"gs://another?endpoint={gcs.url}")
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b"x"), lambda: store.get("a"), lambda: store.head("a"), lambda: list(store.list()),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(NotFound, match="no bucket another") as caught:
            call()
        assert not isinstance(caught.value, Missing)


def test_a_token_that_ended_is_renewed(gcs: Gcs) -> None:
    store = make(gcs)
    store.put("a", b"x")
    gcs.service.tokens.clear()
    assert store.get("a") == b"x"
    assert len(gcs.seen("token")) == 2
    gcs.faults.always["get"] = Refusal(401, "authError", "Invalid Credentials")
    with pytest.raises(Refused, match=FILE):
        store.head("a")


def test_a_key_that_was_deleted(gcs: Gcs) -> None:
    gcs.faults.always["token"] = Refusal(400, "invalid_grant", "Invalid JWT Signature.")
    with pytest.raises(Refused, match="did not accept the credentials"):
        make(gcs).head("a")


def test_a_service_that_is_not_there(gcs: Gcs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nowhere = f"http://127.0.0.1:{port}"
    with pytest.raises(StorageUnavailable, match="cannot be reached") as caught:
        make(gcs, 0.4, url=f"gs://{gcs.bucket}?endpoint={nowhere}").head("a")
    assert caught.value.retryable
    account = json.loads(gcs.credentials_file.read_text())
    gcs.credentials_file.write_text(json.dumps(account | {"token_uri": nowhere + "/token"}))
    with pytest.raises(StorageUnavailable, match="token service cannot be reached"):
        make(gcs, 0.4).head("a")


def test_without_credentials(gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UsageError, match=f"none were found.*{FILE}"):
        GcsStore(parse(f"gs://{gcs.bucket}?endpoint={gcs.url}"), Access()).head("a")


@pytest.mark.parametrize(
    "text",
    ["", "hunter2", "[]", "{}", '{"type": "service_account", "private_key": "hunter2"}', '{"type": "hunter2"}'],
)
def test_a_file_without_credentials_is_told_of_and_not_shown(gcs: Gcs, text: str) -> None:
    gcs.credentials_file.write_text(text)
    with pytest.raises(UsageError, match=FILE) as caught:
        make(gcs).head("a")
    assert "hunter2" not in str(caught.value)
    gcs.credentials_file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        make(gcs).head("a")


def test_credentials_that_cannot_sign(gcs: Gcs) -> None:
    user = {"type": "authorized_user", "client_id": "1", "client_secret": "hunter2", "refresh_token": "hunter2"}
    gcs.credentials_file.write_text(json.dumps(user))
    with pytest.raises(UsageError, match=r"cannot sign URLs.*key of a service account") as caught:
        make(gcs).grant_get(["packs/a/b"], 0)
    assert "hunter2" not in str(caught.value)


def test_no_thread_is_left_running(gcs: Gcs) -> None:
    def running() -> set[str]:
        return {thread.name for thread in threading.enumerate() if "process_request" not in thread.name}

    before = running()
    store = make(gcs)
    store.put("a", b"x", if_absent=True)
    store.put("a", bytes(9 << 20))
    assert len(store.get("a")) == 9 << 20
    list(store.list())
    store.delete(["a"])
    assert running() == before
    assert {seen.operation for seen in gcs.requests} == {"token", "insert", "resumable", "resume", "media", "list", "batch"}

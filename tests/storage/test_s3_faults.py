"""The store when the service is slow, wrong or gone: what is tried again, and what each error says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.emulators.s3 import QUIRKS, Object, S3Emulator
from tests.emulators.s3_auth import Key
from tests.emulators.s3_faults import Fault, error, error_document, lost_answer, reset_answer, reset_upload, script, slow_down, truncated
from torpor.access import Access
from torpor.errors import NoSpace, NotFound, StorageUnavailable, TorporError, UsageError
from torpor.storage import s3_client
from torpor.storage.base import Exists, Missing, Refused, Store
from torpor.storage.s3 import S3Store
from torpor.storage.s3_place import Account, parse
from torpor.storage.table import open_store

MIB = 1 << 20


@pytest.fixture
def s3() -> Iterator[S3Emulator]:
    with S3Emulator("aws") as emulator:
        yield emulator


@pytest.fixture
def store(s3: S3Emulator) -> Store:
    return opened(s3)


def opened(s3: S3Emulator, bucket: str = "bucket", **changed: str) -> Store:
    access = {"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret} | changed
    return open_store(f"s3://{bucket}?endpoint={s3.url}&provider=aws", Access(access))


def statuses(s3: S3Emulator) -> list[tuple[str, int]]:
    return [(seen.method, seen.status) for seen in s3.requests]


# What is tried again


@pytest.mark.parametrize("fault", [slow_down(), error(500, "InternalError"), reset_upload(100_000), reset_answer(0), error_document()])
def test_a_put_that_failed_is_repeated(s3: S3Emulator, store: Store, fault: Fault) -> None:
    data = os.urandom(MIB)
    s3.faults = script([fault], method="PUT")
    assert store.put("a", [data[:1000], data[1000:]], if_absent=True).size == MIB
    assert s3.objects["a"].data == data


def test_a_put_whose_answer_was_lost_is_its_own(s3: S3Emulator, store: Store) -> None:
    s3.faults = script([lost_answer()], method="PUT")
    assert store.put("a", b"mine", if_absent=True).size == 4
    assert statuses(s3) == [("PUT", 0), ("PUT", 412), ("HEAD", 200)]


def test_a_put_that_another_overtook_is_not(s3: S3Emulator, store: Store) -> None:
    def another(_: object) -> Fault | None:
        s3.objects["a"] = Object(b"other", time.time())
        return None

    s3.faults = script([slow_down()], method="PUT")
    first = s3.faults
    s3.faults = lambda seen: first(seen) or another(seen)
    with pytest.raises(Exists):
        store.put("a", b"mine", if_absent=True)
    assert s3.objects["a"].data == b"other"


def test_writers_that_meet_are_repeated_until_one_is_there(s3: S3Emulator, store: Store) -> None:
    s3.faults = script([error(409, "ConditionalRequestConflict")] * 2, method="PUT")
    store.put("a", b"x", if_absent=True)
    assert statuses(s3) == [("PUT", 409), ("PUT", 409), ("PUT", 200)]
    s3.faults = script([error(409, "ConditionalRequestConflict")] * 9, method="PUT")
    with pytest.raises(StorageUnavailable, match="ConditionalRequestConflict") as caught:
        store.put("b", b"x", if_absent=True)
    assert caught.value.retryable


@pytest.mark.parametrize("fault", [reset_answer, truncated])
def test_a_read_goes_on_where_it_broke_off(s3: S3Emulator, store: Store, fault: object) -> None:
    data = os.urandom(4 * MIB)
    s3.objects["a"] = Object(data, time.time())
    s3.faults = script([fault(2 * MIB + 5), fault(MIB)], method="GET")  # type: ignore[operator]
    out = bytearray(4 * MIB - 10)
    store.get_into("a", 10, memoryview(out))
    assert out == data[10:]
    starts = [int(seen.headers["range"].removeprefix("bytes=").partition("-")[0]) for seen in s3.requests]
    assert starts[0] == 10
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert len(set(starts)) == 3 or fault is reset_answer  # with a reset, what the kernel holds is lost too
    s3.faults = script([fault(MIB)], method="GET")  # type: ignore[operator]
    assert store.get("a", 5) == data[5:]


def test_a_read_does_not_mix_two_objects(s3: S3Emulator, store: Store) -> None:
    old, new = os.urandom(4 * MIB), os.urandom(4 * MIB)
    s3.objects["a"] = Object(old, time.time())
    faults = script([truncated(2 * MIB)], method="GET")

    def replace(seen: object) -> Fault | None:
        if len(s3.requests) == 2:
            s3.objects["a"] = Object(new, time.time())
        return faults(seen)  # type: ignore[arg-type]

    s3.faults = replace
    out = bytearray(4 * MIB)
    store.get_into("a", 0, memoryview(out))
    assert out == new


def test_a_service_that_breaks_off_for_ever_is_given_up(s3: S3Emulator, store: Store) -> None:
    s3.objects["a"] = Object(bytes(100), time.time())
    s3.faults = lambda _: truncated(50)
    with pytest.raises(StorageUnavailable, match="early") as caught:
        store.get("a")
    assert caught.value.retryable
    assert len(s3.requests) == 5


def test_a_page_that_says_something_else_is_no_object(s3: S3Emulator, store: Store) -> None:
    s3.objects["a"] = Object(bytes(100), time.time())
    s3.faults = lambda _: error_document()
    with pytest.raises(StorageUnavailable, match="something else"):
        store.get("a")


def test_a_list_that_breaks_off_is_an_error(s3: S3Emulator, store: Store) -> None:
    s3.objects.update({name: Object(b"", 0) for name in "abc"})
    s3.page = 2
    assert [info.name for info in store.list()] == ["a", "b", "c"]
    s3.tokens = False
    with pytest.raises(StorageUnavailable, match="broke off a list"):
        list(store.list())


def test_deletes_one_by_one_where_many_are_not_known(s3: S3Emulator, store: Store) -> None:
    s3.objects.update({name: Object(b"", 0) for name in "abc"})
    s3.faults = script([error(501, "NotImplemented")], method="POST")
    assert store.delete(["a", "b", "gone"]) == 3
    assert store.delete(["c"]) == 1
    assert s3.objects == {}
    assert [method for method, _ in statuses(s3)] == ["POST", "DELETE", "DELETE", "DELETE", "DELETE"]


def test_many_deletes_come_with_their_md5_and_no_newer_digest(s3: S3Emulator, store: Store) -> None:
    store.delete(f"a{number}" for number in range(1001))
    assert [seen.method for seen in s3.requests] == ["POST", "POST"]
    assert all("content-md5" in seen.headers and not any("checksum" in name for name in seen.headers) for seen in s3.requests)


# What each error says


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (error(403, "AccessDenied"), Refused, "AWS_ACCESS_KEY_ID list the bucket"),
        (error(403, "SignatureDoesNotMatch"), Refused, "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (error(403, "InvalidAccessKeyId"), Refused, "no such key"),
        (error(400, "ExpiredToken"), Refused, "run out"),
        (error(403, "InvalidObjectState"), Refused, "archive"),
        (error(403, "RequestTimeTooSkewed"), Refused, "clock"),
        (error(400, "AuthorizationHeaderMalformed"), Refused, "region"),
        (error(501, "NotImplemented"), Refused, "provider="),
        (error(507, "InsufficientStorage"), NoSpace, "prune"),
        (error(400, "BadDigest"), StorageUnavailable, "on the way"),
        (error(503, "SlowDown"), StorageUnavailable, "SlowDown"),
        (error(418, "evil '{0}' $(x)"), Refused, "418"),
        (error(400, "<b>evil</b>"), StorageUnavailable, "cannot be read"),
    ],
)
def test_answers_have_their_errors(
    s3: S3Emulator, monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: type[TorporError], says: str
) -> None:
    monkeypatch.setattr(s3_client, "TRIES", 1)
    store = opened(s3)
    s3.faults = lambda _: fault
    for attempt in (lambda: store.get("a"), lambda: store.put("a", b"x"), lambda: list(store.list()), lambda: store.delete(["a"])):
        if says == "provider=" and attempt is not None:
            monkeypatch.setattr(store, "_deletes_many", False)
        with pytest.raises(kind, match=says) as caught:
            attempt()
        assert type(caught.value).retryable is (kind is StorageUnavailable)
        assert caught.value.safe
        assert caught.value.remedy
        assert s3.secret not in str(caught.value)


def test_a_bucket_that_is_not_there_is_no_missing_object(s3: S3Emulator) -> None:
    store = opened(s3, "no-such-bucket")
    for attempt in (lambda: store.get("a"), lambda: store.head("a"), lambda: store.put("a", b""), lambda: list(store.list())):
        with pytest.raises(NotFound, match="no-such-bucket") as caught:
            attempt()
        assert not isinstance(caught.value, Missing)


def test_keys_that_are_wrong(s3: S3Emulator) -> None:
    with pytest.raises(Refused, match="AWS_SECRET_ACCESS_KEY") as caught:
        opened(s3, AWS_SECRET_ACCESS_KEY="hunter2").get("a")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(Refused, match="no such key"):
        opened(s3, AWS_ACCESS_KEY_ID="other").get("a")
    s3.keys = {s3.key: Key(s3.secret, "token", 1.0)}
    with pytest.raises(Refused, match="run out"):
        opened(s3, AWS_SESSION_TOKEN="token").get("a")


def test_a_clock_that_is_wrong_is_told_by_how_much(s3: S3Emulator, store: Store) -> None:
    s3.skew = 3600
    with pytest.raises(Refused, match="clock forward by 60 minutes"):
        store.get("a")
    s3.skew = -7200
    with pytest.raises(Refused, match="clock back by 120 minutes"):
        store.get("a")


def test_no_credentials_at_all(s3: S3Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = open_store(f"s3://bucket?endpoint={s3.url}")
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        store.get("a")
    assert s3.requests == []


def test_an_endpoint_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "TRIES", 1)
    store = open_store("s3://bucket?endpoint=http://127.0.0.1:1", Access({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}))
    with pytest.raises(StorageUnavailable, match=r"http://127\.0\.0\.1:1 cannot be reached") as caught:
        store.get("a")
    assert caught.value.retryable


def test_encryption_that_hides_the_md5_is_told(s3: S3Emulator, store: Store) -> None:
    s3.faults = lambda _: Fault(headers=(("x-amz-server-side-encryption", "aws:kms"), ("ETag", '"' + "0" * 32 + '"')))
    with pytest.raises(Refused, match="digest=none"):
        store.put("a", b"x")


def test_the_region_of_a_bucket_is_asked_for() -> None:
    with S3Emulator("aws") as s3:
        s3.quirks = QUIRKS["aws"]._replace(regions=("eu-north-1",))
        access = Access({"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret})
        place = parse(f"s3://bucket?endpoint={s3.url}&provider=aws", access)._replace(region="")
        from torpor.storage.s3_place import account

        store = S3Store(place, account(place, access))
        store.put("a", b"x")
        assert "eu-north-1" in store.grant_get(["packs/x/y"], 0).get["x/y"].url
        assert isinstance(account(place, access), Account)

"""Backblaze B2 from the control side: versions, tokens that run out, what goes wrong. The suite is in tests/conformance."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from b2sdk.v3 import exception

from tests.emulators.b2 import B2, LOST, RESET
from tests.emulators.b2_service import Refusal
from torpor.access import Access
from torpor.clock import FakeClock
from torpor.errors import NoSpace, StorageUnavailable, TorporError, UsageError
from torpor.settings import Secret
from torpor.storage import b2_client, b2_errors
from torpor.storage.b2 import B2Store
from torpor.storage.base import Missing, Refused
from torpor.storage.table import open_store

SNAPSHOT = "20260801T120000000-0a1b2c3d"
PACK = f"packs/{SNAPSHOT}/89abcdef-0"
BUSY = Refusal(503, "service_unavailable", "busy", {"Retry-After": "0"})


def store_of(b2: B2, prefix: str = "", key_id: str = "", key: str = "") -> B2Store:
    return B2Store(b2.bucket, prefix, key_id or b2.key_id, Secret(key or b2.key), b2.realm)


@pytest.fixture
def store(b2: B2) -> B2Store:
    return store_of(b2)


# versions


def test_each_put_is_a_version_and_the_newest_counts(b2: B2, store: B2Store) -> None:
    for text in (b"first", b"second", b"third"):
        store.put("claims/a.json", text)
    assert [version.data for version in b2.the_bucket.files["claims/a.json"]] == [b"third", b"second", b"first"]
    assert store.get("claims/a.json") == b"third"
    assert [info.size for info in store.list()] == [5]


def test_delete_takes_every_version_and_hide_markers(b2: B2, store: B2Store) -> None:
    for text in (b"first", b"second"):
        store.put("a", text)
    b2.service.put(b2.the_bucket, "a", b"", "none", "hide")
    store.put("a", b"third")
    store.put("ab", b"another name")
    assert store.delete(["a"]) == 1
    assert list(b2.the_bucket.files) == ["ab"]


def test_delete_of_more_versions_than_a_page_holds(b2: B2, store: B2Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b2_client, "PAGE", 3)
    for number in range(10):
        store.put("a", b"%d" % number)
    store.put("a.b", b"")
    assert store.delete(["a"]) == 1
    assert list(b2.the_bucket.files) == ["a.b"]


def test_a_hidden_name_is_absent(b2: B2, store: B2Store) -> None:
    store.put("a", b"x")
    b2.service.put(b2.the_bucket, "a", b"", "none", "hide")
    assert store.head("a") is None
    assert list(store.list()) == []
    with pytest.raises(Missing):
        store.get("a")
    store.put("a", b"y", if_absent=True)
    assert store.get("a") == b"y"


def test_an_interrupted_delete_brings_no_older_version_to_light(b2: B2, store: B2Store) -> None:
    for text in (b"first", b"second", b"third"):
        store.put("a", text)
    b2.faults.add("b2_delete_file_version", None, Refusal(401, "unauthorized"))
    with pytest.raises(Refused):
        store.delete(["a"])
    assert [version.data for version in b2.the_bucket.files["a"]] == [b"third", b"second"]
    b2.faults.add("b2_delete_file_version", Refusal(400, "file_not_present"))  # another deletes it at the same time
    assert store.delete(["a"]) == 1


def test_a_file_in_parts_has_no_digest(b2: B2, store: B2Store) -> None:
    b2.service.put(b2.the_bucket, "a", b"large", "none")
    head = store.head("a")
    assert head is not None
    assert (head.digest_kind, head.digest) == ("none", b"")
    assert list(store.list()) == [head]


# what passes by itself


@pytest.mark.parametrize(
    "fault",
    [BUSY, RESET, LOST, Refusal(401, "expired_auth_token"), Refusal(401, "bad_auth_token"), Refusal(408, "request_timeout"),
     Refusal(429, "too_many_requests", "", {"Retry-After": "0"}), Refusal(500, "internal_error")],
    ids=str,
)  # fmt: skip
def test_an_upload_that_failed_goes_on_with_another_url(b2: B2, store: B2Store, fault: Refusal) -> None:
    store.put("before", b"")
    b2.faults.add("b2_upload_file", fault)
    store.put("a", b"x" * 100_000)
    assert store.get("a") == b"x" * 100_000
    assert len({seen.path for seen in b2.seen("b2_upload_file")}) == 2
    assert not b2.faults.left
    store.delete(["a", "before"])
    assert b2.the_bucket.files == {}


@pytest.mark.parametrize(
    ("endpoint", "ask"),
    [
        ("b2_authorize_account", lambda store: store.head("a")),
        ("b2_list_buckets", lambda store: store.head("a")),
        ("b2_list_file_names", lambda store: list(store.list())),
        ("b2_list_file_versions", lambda store: store.delete(["a"])),
        ("b2_delete_file_version", lambda store: store.delete(["a"])),
        ("download", lambda store: store.get("a")),
        ("b2_create_key", lambda store: store.grant_put(f"packs/{SNAPSHOT}/", 0)),
        ("b2_get_download_authorization", lambda store: store.grant_get([PACK], 0)),
    ],
)
def test_a_call_to_a_busy_service_is_tried_again(b2: B2, store: B2Store, endpoint: str, ask: Callable[[B2Store], object]) -> None:
    store_of(b2).put("a", b"x")
    b2.faults.add(endpoint, BUSY, BUSY)
    ask(store)
    assert not b2.faults.left


def test_a_download_that_broke_off_is_read_again(b2: B2, store: B2Store) -> None:
    store.put("a", b"x")
    b2.faults.add("download", RESET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: None)  # b2sdk's own pauses
        assert store.get("a") == b"x"


def test_tokens_that_run_out_are_renewed(b2: B2, store: B2Store) -> None:
    store.put("a", b"x")
    for ask in (lambda: store.get("a"), lambda: store.head("a"), lambda: list(store.list()), lambda: store.put("b", b"")):
        b2.service.end_tokens()
        ask()
    b2.service.end_tokens()
    assert store.delete(["a", "b"]) == 2


def test_a_netrc_does_not_replace_the_token(b2: B2, store: B2Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    store.put("a", b"x")
    assert store.get("a") == b"x"
    assert not [seen for seen in b2.seen("download") if seen.headers["authorization"].startswith("Basic")]


# errors

CASES: dict[str, tuple[str, Refusal, Callable[[B2Store], object], type[TorporError], str]] = {
    "storage cap": ("b2_upload_file", Refusal(403, "storage_cap_exceeded"), lambda store: store.put("b", b""), NoSpace, "storage cap"),
    "cap, as it was called": ("b2_upload_file", Refusal(403, "cap_exceeded"), lambda store: store.put("b", b""), NoSpace, "storage cap"),
    "calls": ("b2_list_file_names", Refusal(403, "transaction_cap_exceeded"), lambda store: list(store.list()), Refused, "daily cap"),
    "downloads": ("download", Refusal(403, "download_cap_exceeded"), lambda store: store.get("a"), Refused, "daily cap"),
    "not allowed": ("b2_list_file_names", Refusal(401, "unauthorized"), lambda store: list(store.list()), Refused, "does not allow"),
    "no payment": ("b2_upload_file", Refusal(401, "no_payment_history"), lambda store: store.put("b", b""), Refused, "not ready"),
    "a lock": ("b2_delete_file_version", Refusal(403, "access_denied"), lambda store: store.delete(["a"]), Refused, "lock"),
    "the bucket went": ("b2_get_upload_url", Refusal(400, "bad_bucket_id"), lambda store: store.put("b", b""), Refused, "no such bucket"),
    "nonsense": ("b2_list_file_names", Refusal(418, "teapot"), lambda store: list(store.list()), StorageUnavailable, "no sense"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_service_refuses(b2: B2, case: str) -> None:
    endpoint, fault, ask, kind, why = CASES[case]
    store = store_of(b2)
    store.put("a", b"x")
    token = b2.seen("b2_get_upload_url")[-1].headers["authorization"]
    upload = b2.seen("b2_upload_file")[-1]
    fault = Refusal(fault.status, fault.code, f"about {token} and {upload.headers['authorization']} of {b2.key}")
    store = store_of(b2)
    b2.faults.add(endpoint, fault)
    with pytest.raises(kind, match=why) as caught:
        ask(store)
    assert caught.value.remedy
    assert caught.value.retryable == (kind is StorageUnavailable)
    for secret in (b2.key, token, upload.headers["authorization"]):
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"key": "K005wrong"}, "not valid"),
        ({"key_id": "0051234"}, "not valid"),
        ({"bucket": "no-such-bucket"}, "no such bucket"),
    ],
)
def test_a_wrong_key_and_a_wrong_bucket(b2: B2, change: dict[str, str], why: str) -> None:
    given = {"bucket": b2.bucket, "key_id": b2.key_id, "key": b2.key, **change}
    store = B2Store(given["bucket"], "", given["key_id"], Secret(given["key"]), b2.realm)
    with pytest.raises(Refused, match=why) as caught:
        store.head("a")
    assert given["key"] not in str(caught.value)
    assert given["key"] not in repr(vars(store))


def test_a_key_for_one_bucket_moves_objects_and_grants_reads_but_no_writes(b2: B2) -> None:
    """B2 gives no key of one bucket the power to make keys."""
    key = b2.service.make_key({"listBuckets", "listFiles", "readFiles", "shareFiles", "writeFiles", "deleteFiles"}, b2.the_bucket.id)
    store = store_of(b2, "", key.id, key.secret)
    store.put(PACK, b"x")
    assert store.get(PACK) == b"x"
    assert store.grant_get([PACK], 0).get
    with pytest.raises(Refused, match="does not allow") as caught:
        store.grant_put(f"packs/{SNAPSHOT}/", 0)
    assert "writeKeys" in caught.value.remedy
    assert store.delete([PACK]) == 1


def test_a_key_for_another_bucket_or_prefix(b2: B2) -> None:
    other = b2.service.make_bucket("another-bucket")
    key = b2.service.make_key({"listFiles", "readFiles", "writeFiles"}, other.id)
    with pytest.raises(Refused, match="another bucket"):
        store_of(b2, "", key.id, key.secret).head("a")
    key = b2.service.make_key({"listFiles", "readFiles", "writeFiles"}, b2.the_bucket.id, "mine/")
    store_of(b2, "mine/", key.id, key.secret).put("a", b"")
    theirs = store_of(b2, "theirs/", key.id, key.secret)
    for ask in (lambda: theirs.put("a", b""), lambda: list(theirs.list()), lambda: theirs.get("a"), lambda: theirs.head("a")):
        with pytest.raises(Refused, match="does not allow"):
            ask()


def test_a_key_that_ran_out(b2_later: tuple[B2, FakeClock]) -> None:
    b2, clock = b2_later
    key = b2.service.make_key(life=60)
    store = store_of(b2, "", key.id, key.secret)
    store.put("a", b"")
    clock.advance(61)
    with pytest.raises(Refused, match="not valid"):
        store.put("b", b"")


def test_a_service_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b2_client, "TRIES", 1)
    with B2() as b2:
        realm = b2.realm
    store = B2Store(b2.bucket, "", b2.key_id, Secret(b2.key), realm)
    with pytest.raises(StorageUnavailable, match="connection failed") as caught:
        store.put("a", b"")
    assert caught.value.retryable


def test_a_realm_that_is_none(b2: B2) -> None:
    """As a web server, or the S3 endpoint."""
    store = B2Store(b2.bucket, "", b2.key_id, Secret(b2.key), b2.realm + "/elsewhere")
    with pytest.raises(Refused, match="does not speak") as caught:
        store.head("a")
    assert "realm" in caught.value.remedy


def test_the_table_of_errors_names_classes_that_b2sdk_has() -> None:
    there = {name for name, found in vars(sys.modules[exception.B2Error.__module__]).items() if isinstance(found, type)}
    assert {name for names, *_ in b2_errors.KINDS for name in names} | {"ResourceNotFound"} <= there


# URLs


def test_a_url_says_where_and_no_more() -> None:
    access = Access({"B2_KEY_ID": "id", "B2_APPLICATION_KEY": "hunter2"})
    for url in ("b2://my-bucket", "b2://my-bucket/a/b", "b2://my-bucket/a?realm=http%3A%2F%2F127.0.0.1%3A1"):
        store = open_store(url, access)
        assert store.url == url
        assert "hunter2" not in repr(store) + repr(vars(store))
    assert open_store("B2://my-bucket/a/", access).url == "b2://my-bucket/a"
    assert open_store("b2://my-bucket/?realm=https://api.backblazeb2.com/", access).url == "b2://my-bucket"


@pytest.mark.parametrize(
    "url",
    ["b2:", "b2://", "b2://x", "b2://id:hunter2@my-bucket", "b2://id:hunter2", "b2://my-bucket/a//b", "b2://my-bucket/a b", "b2://[",
     "b2://my-bucket/.hidden", "b2://my-bucket?key=hunter2", "b2://my-bucket?realm=ftp://x", "b2://my-bucket?realm=",
     "b2://my-bucket?realm=https://id:hunter2@host", "b2://my-bucket#hunter2", "b2://my_bucket"],
)  # fmt: skip
def test_other_urls_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url, Access({"B2_KEY_ID": "id", "B2_APPLICATION_KEY": "key"}))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"B2_KEY_ID": "id"}, {"B2_APPLICATION_KEY": "hunter2"}])
def test_without_a_key_the_error_names_the_settings(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="B2_KEY_ID and B2_APPLICATION_KEY") as caught:
        open_store("b2://my-bucket", Access(given))
    assert "hunter2" not in str(caught.value)

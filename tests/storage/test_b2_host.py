"""Backblaze B2 from a host: what a grant allows and what the service refuses, and what goes wrong on the way."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import urllib3
from b2sdk.v3 import B2Session, InMemoryAccountInfo
from b2sdk.v3 import exception as sdk
from blake3 import blake3

from tests.emulators.b2 import B2, LOST, RESET, Cut
from tests.emulators.b2_service import Refusal
from torpor.clock import FakeClock
from torpor.errors import NoSpace, StorageUnavailable
from torpor.jobs import Grant
from torpor.settings import Secret
from torpor.storage.b2 import LIFE_MAX, B2Store
from torpor.storage.base import GrantExpired, NotGranted, Refused
from torpor.storage.grants import find
from torpor.storage.options import Options
from torpor.storage.retry import Timing
from torpor.storage.transfer import Transfer
from torpor.storage.transport_b2 import B2Transport

SNAPSHOT, OTHER = "20260801T120000000-0a1b2c3d", "20260802T120000000-4e5f6071"
PACK = f"{SNAPSHOT}/89abcdef-0"
PREFIX = "team/"
FOREVER = 4e9


def store_of(b2: B2, clock: FakeClock | None = None) -> B2Store:
    return B2Store(b2.bucket, PREFIX, b2.key_id, Secret(b2.key), b2.realm, *([clock] if clock else []))


def put_grant(b2: B2) -> Grant:
    return store_of(b2).grant_put(f"packs/{SNAPSHOT}/", FOREVER)


def put(transfer: Transfer, name: str, data: bytes) -> bytes:
    return transfer.put(name, [data], blake3(data).digest()).digest


def credentials(grant: Grant) -> tuple[str, str]:
    """The key's id and the key, as a host that means harm finds them in its job."""
    assert grant.put_template is not None
    coded = grant.put_template.headers["Authorization"].removeprefix("Basic ")
    key_id, _, key = base64.b64decode(coded).decode().partition(":")
    return key_id, key


@pytest.fixture
def grant(b2: B2) -> Grant:
    return put_grant(b2)


@pytest.fixture
def transfer(grant: Grant) -> Iterator[Transfer]:
    with Transfer(grant) as found:
        yield found


# what a key to write is


def test_the_key_writes_below_one_prefix_of_one_bucket_for_a_while(b2_later: tuple[B2, FakeClock]) -> None:
    b2, clock = b2_later
    grant = store_of(b2, clock).grant_put(f"packs/{SNAPSHOT}/", clock.now() + 3600.5)
    key = b2.service.keys[credentials(grant)[0]]
    assert key.capabilities == {"writeFiles"}
    assert (key.bucket, key.prefix) == (b2.the_bucket.id, f"team/packs/{SNAPSHOT}/")
    assert key.expires == clock.now() + 3600
    assert grant.expires == clock.now() + 3600.5


@pytest.mark.parametrize("expires", [0.0, FOREVER])
def test_no_grant_lives_longer_than_a_week(b2_later: tuple[B2, FakeClock], expires: float) -> None:
    b2, clock = b2_later
    store = store_of(b2, clock)
    grant = store.grant_put(f"packs/{SNAPSHOT}/", expires)
    assert grant.expires == clock.now() + LIFE_MAX
    assert b2.service.keys[credentials(grant)[0]].expires == grant.expires
    assert store.grant_get([f"packs/{PACK}"], expires).expires == grant.expires


def test_a_grant_that_is_over_makes_no_key_and_no_token(b2: B2) -> None:
    store = store_of(b2)
    grant = store.grant_put(f"packs/{SNAPSHOT}/", 1.0)
    store.grant_get([f"packs/{PACK}"], 1.0)
    store.end_grant(grant)
    assert not [seen for seen in b2.requests if seen.endpoint in ("b2_create_key", "b2_get_download_authorization", "b2_delete_key")]
    with Transfer(grant) as transfer, pytest.raises(GrantExpired):
        put(transfer, PACK, b"x")


def test_a_grant_survives_the_wire_and_prints_no_key(grant: Grant) -> None:
    again = msgspec.json.decode(msgspec.json.encode(grant), type=Grant)
    assert again == grant
    for text in (repr(grant), repr(find(grant, "put", PACK))):
        assert credentials(grant)[1] not in text
        assert "Basic" not in text


# what a host cannot do with it

HARM: dict[str, Callable[[B2Session, str, str], Any]] = {
    "list names": lambda s, bucket, name: s.list_file_names(bucket, None, 10, name.rpartition("/")[0]),
    "list versions": lambda s, bucket, name: s.list_file_versions(bucket, None, None, 10, name.rpartition("/")[0]),
    "list buckets": lambda s, bucket, name: s.list_buckets(s.account_info.get_account_id()),
    "read": lambda s, bucket, name: s.download_file_from_url(s.get_download_url_by_name("torpor-tests", name)),
    "look": lambda s, bucket, name: s.get_file_info_by_name("torpor-tests", name),
    "let others read": lambda s, bucket, name: s.get_download_authorization(bucket, name, 60),
    "make a key": lambda s, bucket, name: s.create_key(s.account_info.get_account_id(), ["readFiles"], "mine", 60, [bucket], ""),
    "delete a key": lambda s, bucket, name: s.delete_key(s.account_info.get_application_key_id()),
    "hide elsewhere": lambda s, bucket, name: s.hide_file(bucket, f"team/packs/{OTHER}/89abcdef-0"),
    "write at the root": lambda s, bucket, name: upload(s, bucket, "team/config.json"),
    "write another's pack": lambda s, bucket, name: upload(s, bucket, f"team/packs/{OTHER}/89abcdef-0"),
    "write beside": lambda s, bucket, name: upload(s, bucket, f"team/packs/{SNAPSHOT}0/89abcdef-0"),
    "write upwards": lambda s, bucket, name: upload(s, bucket, f"packs/{SNAPSHOT}/89abcdef-0"),
}


def upload(session: B2Session, bucket: str, name: str) -> None:
    import hashlib
    import io

    session.upload_file(bucket, name, 1, "text/plain", hashlib.sha1(b"x", usedforsecurity=False).hexdigest(), {}, io.BytesIO(b"x"))


@pytest.mark.parametrize("harm", HARM)
def test_the_service_refuses_a_host_whatever_is_no_write_below_its_prefix(b2: B2, grant: Grant, harm: str) -> None:
    store = store_of(b2)
    store.put(f"packs/{PACK}", b"kept")
    store.put(f"packs/{OTHER}/89abcdef-0", b"kept")
    before = {name: [version.id for version in versions] for name, versions in b2.the_bucket.files.items()}
    session = B2Session(InMemoryAccountInfo())
    session.authorize_account(b2.realm, *credentials(grant))
    with pytest.raises(sdk.Unauthorized):
        HARM[harm](session, b2.the_bucket.id, f"team/packs/{PACK}")
    assert {name: [version.id for version in versions] for name, versions in b2.the_bucket.files.items()} == before


def test_the_service_lets_no_host_delete_a_version(b2: B2, grant: Grant) -> None:
    store_of(b2).put(f"packs/{PACK}", b"kept")
    (version,) = b2.the_bucket.files[f"team/packs/{PACK}"]
    session = B2Session(InMemoryAccountInfo())
    session.authorize_account(b2.realm, *credentials(grant))
    with pytest.raises(sdk.Unauthorized):
        session.delete_file_version(version.id, version.name)


def test_a_host_can_hide_its_own_packs_and_nothing_is_lost(b2: B2, grant: Grant) -> None:
    """`writeFiles` covers b2_hide_file, and a new version of a name: the commit counts what is there, after the key has ended."""
    store = store_of(b2)
    store.put(f"packs/{PACK}", b"kept")
    session = B2Session(InMemoryAccountInfo())
    session.authorize_account(b2.realm, *credentials(grant))
    session.hide_file(b2.the_bucket.id, f"team/packs/{PACK}")
    assert store.head(f"packs/{PACK}") is None
    assert [version.data for version in b2.the_bucket.files[f"team/packs/{PACK}"]] == [b"", b"kept"]


def test_a_transfer_reads_nothing_by_a_key(b2: B2, transfer: Transfer, grant: Grant) -> None:
    put(transfer, PACK, b"x")
    with pytest.raises(NotGranted):
        transfer.get(PACK)
    transport = B2Transport()
    for ask in (
        lambda: transport.get(find(grant, "put", PACK), 0, None),
        lambda: transport.get_into(find(grant, "put", PACK), 0, memoryview(b"")),
    ):
        with pytest.raises(NotGranted):
            ask()


def test_a_forged_name_is_refused_by_the_service(b2: B2, grant: Grant) -> None:
    """A host that changes what its grant says of names."""
    template = grant.put_template
    assert template is not None
    headers = {**template.headers, "X-Bz-File-Name": "team/config.json"}
    forged = msgspec.structs.replace(grant, put_template=msgspec.structs.replace(template, headers=headers))
    with Transfer(forged) as transfer, pytest.raises(NotGranted, match="unauthorized"):
        put(transfer, PACK, b"x")
    assert b2.the_bucket.files == {}


# taking back


def test_the_end_of_a_grant_is_the_end_of_its_key(b2: B2, grant: Grant) -> None:
    store = store_of(b2)
    with Transfer(grant) as transfer:
        put(transfer, PACK, b"x")
        store.end_grant(grant)
        with pytest.raises(GrantExpired):
            put(transfer, f"{SNAPSHOT}/89abcdef-1", b"x")
    with Transfer(grant) as transfer, pytest.raises(GrantExpired) as caught:
        put(transfer, f"{SNAPSHOT}/89abcdef-1", b"x")
    assert credentials(grant)[1] not in str(caught.value)
    store.end_grant(grant)  # once more is no error
    store.end_grant(store.grant_get([f"packs/{PACK}"], 0))
    assert list(b2.service.keys) == [b2.key_id]


# reading


def test_a_token_reads_one_snapshot_and_nothing_else(b2: B2) -> None:
    store = store_of(b2)
    names = [f"packs/{PACK}", f"packs/{SNAPSHOT}/89abcdef-1", f"packs/{OTHER}/89abcdef-0"]
    for name in (*names, "config.json"):
        store.put(name, name.encode())
    grant = store.grant_get(names, FOREVER)
    tokens = {name: request.headers["Authorization"] for name, request in grant.get.items()}
    assert len(set(tokens.values())) == len(b2.seen("b2_get_download_authorization")) == 2
    assert tokens[PACK] == tokens[f"{SNAPSHOT}/89abcdef-1"] != tokens[f"{OTHER}/89abcdef-0"]
    with Transfer(grant) as transfer:
        for name in names:
            assert transfer.get(name.removeprefix("packs/")) == name.encode()
    base, headers = f"{b2.realm}/file/{b2.bucket}/team/", {"Authorization": tokens[PACK]}
    with urllib3.PoolManager() as pool:
        for name in (f"packs/{OTHER}/89abcdef-0", "config.json"):
            assert pool.request("GET", base + name, headers=headers).status == 401
        (version,) = b2.the_bucket.files[f"team/packs/{PACK}"]
        body = {"bucketId": b2.the_bucket.id, "prefix": f"team/packs/{SNAPSHOT}/", "fileName": version.name, "fileId": version.id}
        for call in ("b2_list_file_names", "b2_get_upload_url", "b2_delete_file_version"):
            answer = pool.request("POST", f"{b2.realm}/b2api/v4/{call}", body=msgspec.json.encode(body), headers=headers)
            assert answer.status == 401, call
        assert pool.request("GET", base + names[0]).status == 401


def test_a_token_runs_out(b2_later: tuple[B2, FakeClock]) -> None:
    b2, clock = b2_later
    store = store_of(b2, clock)
    store.put(f"packs/{PACK}", b"x")
    grant = store.grant_get([f"packs/{PACK}"], clock.now() + 60)
    with Transfer(grant) as transfer:
        assert transfer.get(PACK) == b"x"
        clock.advance(61)
        with pytest.raises(GrantExpired):
            transfer.get(PACK)


# what goes wrong on the way


@pytest.mark.parametrize(
    "fault",
    [Refusal(503, "service_unavailable"), Refusal(500, "internal_error"), Refusal(408, "request_timeout"), RESET, LOST,
     Refusal(429, "too_many_requests", "", {"Retry-After": "0"}), Refusal(401, "expired_auth_token"), Refusal(401, "bad_auth_token"),
     Refusal(400, "bad_request", "Sha1 did not match data received"), Refusal(400, "auth_token_limit", "more than one upload")],
    ids=str,
)  # fmt: skip
def test_an_upload_that_failed_goes_on_with_another_url(b2: B2, transfer: Transfer, fault: Refusal | Cut) -> None:
    put(transfer, PACK, b"before")
    b2.faults.add("b2_upload_file", fault)
    name = f"{SNAPSHOT}/89abcdef-1"
    put(transfer, name, b"x" * 300_000)
    assert b2.the_bucket.files[f"team/packs/{name}"][0].data == b"x" * 300_000
    assert len(b2.the_bucket.files[f"team/packs/{name}"]) == (2 if fault == LOST else 1)
    assert len({seen.path for seen in b2.seen("b2_upload_file")}) == 2
    assert not b2.faults.left
    assert store_of(b2).delete([f"packs/{name}"]) == 1
    assert f"team/packs/{name}" not in b2.the_bucket.files


@pytest.mark.parametrize("endpoint", ["b2_authorize_account", "b2_get_upload_url"])
@pytest.mark.parametrize("fault", [Refusal(503, "service_unavailable"), RESET, LOST], ids=str)
def test_what_comes_before_an_upload_is_tried_again(b2: B2, transfer: Transfer, endpoint: str, fault: Refusal | Cut) -> None:
    b2.faults.add(endpoint, fault)
    put(transfer, PACK, b"x")
    assert b2.the_bucket.files[f"team/packs/{PACK}"][0].data == b"x"


def test_tokens_that_ran_out_are_renewed_with_the_same_key(b2: B2, transfer: Transfer) -> None:
    put(transfer, PACK, b"x")
    b2.service.end_tokens()
    put(transfer, f"{SNAPSHOT}/89abcdef-1", b"y")
    assert len(b2.seen("b2_authorize_account")) == 3  # the store's, and two of the host's
    assert len(b2.the_bucket.files) == 2


def test_a_busy_service_is_given_the_time_that_it_asks_for(b2: B2, grant: Grant) -> None:
    waits: list[float] = []
    transport = B2Transport(Options(), Timing(lambda: sum(waits), waits.append, lambda: 0.5))
    b2.faults.add("b2_upload_file", Refusal(429, "too_many_requests", "", {"Retry-After": "7"}), Refusal(503, "service_unavailable"))
    transport.put(find(grant, "put", PACK), [b"x"], blake3(b"x").digest())
    transport.close()
    assert waits[0] == 7
    assert len(waits) == 2


def test_a_service_that_stays_busy_is_given_up_with_a_remedy(b2: B2, grant: Grant) -> None:
    waits: list[float] = []
    transport = B2Transport(Options(deadline=60), Timing(lambda: sum(waits), waits.append, lambda: 1.0))
    b2.faults.add("b2_upload_file", *[Refusal(503, "service_unavailable")] * 100)
    with pytest.raises(StorageUnavailable, match="503 service_unavailable") as caught:
        transport.put(find(grant, "put", PACK), [b"x"], blake3(b"x").digest())
    transport.close()
    assert caught.value.retryable
    assert caught.value.remedy
    assert credentials(grant)[1] not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Refusal(403, "storage_cap_exceeded"), NoSpace),
        (Refusal(403, "cap_exceeded"), NoSpace),
        (Refusal(403, "transaction_cap_exceeded"), Refused),
        (Refusal(401, "unauthorized"), NotGranted),
        (Refusal(400, "bad_request", "no such thing"), Refused),
    ],
    ids=str,
)
def test_what_the_service_refuses(b2: B2, transfer: Transfer, grant: Grant, fault: Refusal, kind: type[Exception]) -> None:
    b2.faults.add("b2_upload_file", Refusal(fault.status, fault.code, f"{fault.message} {credentials(grant)[1]}"))
    with pytest.raises(kind, match=fault.code) as caught:
        put(transfer, PACK, b"x")
    assert credentials(grant)[1] not in str(caught.value)
    assert len(b2.seen("b2_upload_file")) == 1
    put(transfer, PACK, b"x")


def test_each_thread_has_an_upload_url_of_its_own_and_keeps_it(b2: B2, transfer: Transfer) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: put(transfer, f"{SNAPSHOT}/89abcdef-{number}", b"x" * 200_000), range(40)))
    assert len(b2.the_bucket.files) == len(b2.seen("b2_upload_file")) == 40  # none was told that its URL was in use
    assert len(b2.seen("b2_get_upload_url")) <= 4
    assert len(b2.seen("b2_authorize_account")) == 2


def test_names_are_sent_percent_encoded(b2: B2, transfer: Transfer) -> None:
    put(transfer, PACK, b"x")
    (seen,) = b2.seen("b2_upload_file")
    assert seen.headers["x-bz-file-name"] == f"team/packs/{PACK}"
    assert "torpor-prefix" not in seen.headers
    assert "x-bz-bucket-id" not in seen.headers

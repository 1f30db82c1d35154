"""torpor doctor's questions to a store: each thing that can be wrong with one shows, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.rclone import Rclone
from tests.emulators.s3 import Object, S3Emulator, Seen
from tests.emulators.s3_faults import Fault, error
from torpor.access import Access
from torpor.clock import SYSTEM
from torpor.control import probe_speed
from torpor.control.finding import Check
from torpor.control.probe_clock import between
from torpor.control.probe_store import check_store
from torpor.errors import Interrupted
from torpor.storage.base import Info, Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.storage.table import open_store

GOOD = {
    "clock", "reachable", "writable", "readable", "list", "conditional put", "grant", "checksum", "grant: names", "grant: end", "delete",
}  # fmt: skip


@pytest.fixture
def s3() -> Iterator[S3Emulator]:
    with S3Emulator("aws") as found:
        yield found


def opened(s3: S3Emulator | Rclone, secret: str = "", bucket: str = "bucket", **options: str) -> Store:
    if isinstance(s3, S3Emulator):
        options.setdefault("provider", s3.profile)
    query = "".join(f"&{key}={value}" for key, value in options.items())
    access = Access({"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": secret or s3.secret})
    return open_store(f"s3://{bucket}?endpoint={s3.url}{query}", access)


def probe(store: Store) -> dict[str, Check]:
    found = list(check_store(store, SYSTEM, quick=True))
    by_name = {check.name: check for check in found}
    assert len(by_name) == len(found)
    assert [check.name for check in found if check.state != "ok" and not check.remedy] == []
    return by_name


def bad(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.state for name, check in found.items() if check.state != "ok"}


@pytest.mark.parametrize("profile", ["aws", "b2", "r2", "wasabi"])
def test_a_good_service(profile: str) -> None:
    with S3Emulator(profile) as s3:
        found = probe(opened(s3))
        assert (set(found), bad(found), s3.objects) == (GOOD, {}, {})
        assert ("decided by the store" in found["conditional put"].text) == (profile in ("aws", "r2"))


def test_rclone(tmp_path: Path) -> None:
    """A real server; also its speed."""
    (tmp_path / "bucket").mkdir()
    with Rclone(tmp_path) as server:
        store = opened(server)
        found = {check.name: check for check in check_store(store, SYSTEM)}
        assert (set(found), bad(found), list(store.list())) == (GOOD | {"throughput"}, {}, [])
        figures = found["throughput"].figures
        assert figures is not None
        assert (figures["sent_bytes"] >= probe_speed.REMOTE[0].bytes, figures["down_mb_per_s"] > 0) == (True, True)
        assert bad(probe(opened(server, conditional="yes")))["conditional put"] == "fail"


def test_a_folder(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "store"))
    assert (bad(probe(store)), list(store.list())) == ({}, [])


def test_a_wrong_key(s3: S3Emulator) -> None:
    found = probe(opened(s3, secret="wrong/secret"))
    assert bad(found) == {"access": "fail"}
    assert "the secret does not belong to the key" in found["access"].text
    assert "AWS_SECRET_ACCESS_KEY" in found["access"].remedy


def test_a_missing_bucket(s3: S3Emulator) -> None:
    found = probe(opened(s3, bucket="another"))
    assert (bad(found), found["store"].text) == ({"store": "fail"}, "Amazon S3 has no bucket another.")


@pytest.mark.parametrize(("method", "name"), [("GET", "list"), ("PUT", "writable"), ("POST", "delete")])
def test_a_key_that_may_not(s3: S3Emulator, method: str, name: str) -> None:
    def refuse(seen: Seen) -> Fault | None:
        return error(403, "AccessDenied") if seen.method == method and (method != "GET" or "list-type" in seen.query) else None

    s3.faults = refuse
    found = probe(opened(s3))
    assert bad(found) == {name: "fail"}
    assert "list the bucket, and read, write and delete" in found[name].remedy
    if name == "delete":  # it wrote no more than it had to, and says what is left
        assert len(s3.objects) == 2
        assert all(left in found[name].remedy for left in s3.objects)
    else:
        assert s3.objects == {}


@pytest.mark.parametrize(("skew", "states"), [
    (30.0, {}), (-120.0, {"clock": "warn"}), (400.0, {"clock": "fail"}), (1000.0, {"clock": "fail", "access": "fail"}),
])  # fmt: skip
def test_clocks_that_differ(s3: S3Emulator, skew: float, states: dict[str, str]) -> None:
    s3.skew = skew
    found = probe(opened(s3))
    assert bad(found) == states
    figures = found["clock"].figures
    assert figures is not None
    assert figures["skew_seconds"] == pytest.approx(abs(skew), abs=30)
    assert skew < 100 or "behind" in found["clock"].text
    assert skew > 0 or "ahead of" in found["clock"].text


def test_a_second_is_no_difference() -> None:
    """Stores tell whole seconds, and an answer takes its time."""
    texts = [between(theirs, 100.9, 101.4).text for theirs in (100.0, 101.0)]
    assert texts == ["this computer's and the store's agree"] * 2
    assert between(39.0, 100.9, 101.4).state == "warn"


def test_a_store_that_overwrites_though_it_is_said_to_refuse() -> None:
    with S3Emulator("wasabi") as s3:
        found = probe(opened(s3, provider="s3", conditional="yes"))
        assert (bad(found), s3.objects) == ({"conditional put": "fail", "grant": "fail"}, {})
        assert "conditional=no" in found["conditional put"].remedy


def test_a_store_that_could_decide_is_told_of(s3: S3Emulator) -> None:
    found = probe(opened(s3, provider="s3"))
    assert (bad(found), "write ?conditional=yes" in found["conditional put"].remedy) == ({}, True)


def test_a_store_that_tells_another_digest(s3: S3Emulator) -> None:
    """Of what hosts send: told as damage, wherever it shows."""

    def garble(seen: Seen) -> Fault | None:
        return Fault(headers=(("ETag", f'"{"0" * 32}"'),)) if seen.method == "PUT" and "X-Amz-Expires" in seen.query else None

    s3.faults = garble
    found = probe(opened(s3))
    assert bad(found) == dict.fromkeys(["grant", "checksum", "grant: names", "grant: end"], "fail")
    assert "other bytes" in found["checksum"].text
    assert s3.objects == {}


def test_a_store_whose_grants_never_end(s3: S3Emulator) -> None:
    s3.ends = False
    found = probe(opened(s3))
    assert bad(found) == {"grant: end": "fail"}
    assert "still writes, and still reads" in found["grant: end"].text
    assert s3.objects == {}


def test_a_store_that_checks_no_signature(s3: S3Emulator) -> None:
    s3.signs = False
    found = probe(opened(s3, secret="whatever"))
    assert bad(found) == {"grant: names": "fail", "grant: end": "fail"}
    assert "writes and reads another one's object" in found["grant: names"].text
    assert s3.objects == {}


def test_a_store_that_lists_late() -> None:
    class Late(MemoryStore):
        def list(self, prefix: str = "") -> Iterator[Info]:
            return (info for info in super().list(prefix) if not info.name.endswith("3"))

    store = Late()
    found = probe(store)
    assert bad(found) == {"list": "fail"}
    assert "1 of 4 objects were not listed once written" in found["list"].text
    store._capabilities = store.capabilities._replace(consistent_list=False)
    assert (bad(probe(store)), store.objects) == ({"list": "warn"}, {})


def test_a_store_that_goes_away(s3: S3Emulator) -> None:
    store = opened(s3)
    s3.close()
    found = probe(store)
    assert bad(found) == {"store": "fail"}
    assert "cannot be reached" in found["store"].text


@pytest.mark.parametrize("how", ["closed", "interrupted"])
@pytest.mark.parametrize("at", ["writable", "list", "grant: names", "throughput"])
def test_what_ends_midway_leaves_nothing(how: str, at: str) -> None:
    store = MemoryStore()
    checks = check_store(store, SYSTEM)
    for check in checks:
        if check.name == at:
            break
    assert store.objects
    if how == "closed":
        checks.close()
    else:
        with pytest.raises(Interrupted):
            checks.throw(Interrupted("The command was stopped."))
    assert store.objects == {}


def test_what_a_killed_probe_left_is_taken_along(s3: S3Emulator) -> None:
    """After a day; a younger one may be at work."""
    now = time.time()
    s3.objects |= {"doctor/old": Object(b"", now - 90_000), "doctor/new": Object(b"", now - 9000), "snapshots/x": Object(b"", 0)}
    assert bad(probe(opened(s3))) == {}
    assert set(s3.objects) == {"doctor/new", "snapshots/x"}

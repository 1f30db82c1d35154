"""A host's HTTP transport against real sockets, each fault by its script."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from blake3 import blake3

from tests.emulators.faulty import Fault, Faulty
from torpor.errors import Damaged, NoSpace, StorageUnavailable, TorporError, UsageError
from torpor.jobs import Grant, Request
from torpor.storage.base import Exists, GrantExpired, Missing, Refused
from torpor.storage.options import Options
from torpor.storage.retry import Timing
from torpor.storage.transfer import PutInfo, Transfer
from torpor.storage.transport_http import HttpTransport
from torpor.testing.store_case import many_parts

MIB = 1 << 20
NAME = "20260801T120000000-0a1b2c3d/89abcdef-0"
PATIENT = Options(stall=5.0)
SECRET = "X-Amz-Signature=5ec4e7"
EARLY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Time:
    """Waiting takes no time, and is written down."""

    def __init__(self) -> None:
        self.at = 0.0
        self.waits: list[float] = []
        self.timing = Timing(lambda: self.at, self.sleep, lambda: 1.0)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server() -> Iterator[Faulty]:
    with Faulty() as server:
        yield server


def transfer_to(server: Faulty, time: Time | None = None, *names: str, read: bool = True, md5: bool = True, expires: float = 0,
                options: Options = PATIENT) -> Transfer:  # fmt: skip
    """A transfer that may write and (`read`) read these objects of the server."""

    def url(name: str) -> str:
        return f"{server.url}/{name}?{SECRET}"

    names = names or (NAME,)
    put = {name: Request("PUT", url(name), {"If-None-Match": "*"}, "md5" if md5 else "") for name in names}
    get = {name: Request("GET", url(name)) for name in names} if read else {}
    transfer = Transfer(Grant(put=put, get=get, expires=expires), options=options)
    transfer._transports["http"] = HttpTransport(options, time.timing if time else None)
    return transfer


def put(transfer: Transfer, data: bytes, name: str = NAME) -> PutInfo:
    return transfer.put(name, [data], blake3(data).digest())


def fails(script: Mapping[int, Fault], wanted: type[TorporError], time: Time, *, verb: str = "put", expires: float = 0) -> TorporError:
    with Faulty(script) as server, transfer_to(server, time, expires=expires) as transfer:
        server.objects["/" + NAME] = b"0123456789"
        with pytest.raises(wanted) as caught:
            put(transfer, b"x") if verb == "put" else transfer.get(NAME)
    assert type(caught.value) is wanted
    text = repr(caught.value.as_dict())
    assert SECRET not in text
    assert "http:" not in text
    return caught.value


# puts and gets


def test_bytes_go_and_come_back(server: Faulty) -> None:
    whole, parts = many_parts(5 * MIB)
    with transfer_to(server) as transfer:
        info = transfer.put(NAME, parts, blake3(whole).digest())
        assert info == PutInfo(NAME, len(whole), "md5", hashlib.md5(whole).digest())
        assert server.objects["/" + NAME] == whole
        assert transfer.get(NAME) == whole
        assert transfer.get(NAME, 4 * MIB) == whole[4 * MIB :]
        assert transfer.get(NAME, 1234, 567) == whole[1234 : 1234 + 567]
        out = bytearray(3 * MIB)
        transfer.get_into(NAME, MIB, memoryview(out))
        assert out == whole[MIB : 4 * MIB]
        counters = transfer.counters()
    assert server.connections == 1
    assert counters == transfer.counters()
    assert (counters.requests, counters.retries, counters.sent) == (5, 0, len(whole))
    assert counters.received == len(whole) + 1 + MIB + 567 + 3 * MIB  # where no byte need be left, the one before is read too
    assert {seen.path.partition("?")[2] for seen in server.requests} == {SECRET}


@pytest.mark.parametrize(("data", "start", "length", "wanted"), [
    (b"", 0, None, b""), (b"", 0, 0, b""), (b"abc", 3, None, b""), (b"abc", 3, 0, b""), (b"abc", 0, 0, b""), (b"abc", 2, 1, b"c"),
    (b"abc", 2, None, b"c"), (b"", 0, 1, None), (b"", 1, None, None), (b"abc", 4, None, None), (b"abc", 4, 0, None),
    (b"abc", 2, 2, None), (b"abc", 3, 1, None), (b"abc", 0, 4, None), (b"abc", 9, 1, None),
])  # fmt: skip
@pytest.mark.parametrize("ranges", [True, False])
def test_edges_of_objects(data: bytes, start: int, length: int | None, wanted: bytes | None, ranges: bool) -> None:
    """Also with a server that ignores `Range`."""
    with Faulty(lambda number: Fault(ranges=ranges)) as server, transfer_to(server) as transfer:
        server.objects["/" + NAME] = data
        if wanted is not None:
            assert transfer.get(NAME, start, length) == wanted
            if length is not None:
                out = bytearray(length)
                transfer.get_into(NAME, start, memoryview(out))
                assert out == wanted
        else:
            with pytest.raises(Damaged):
                transfer.get(NAME, start, length)
        server.objects.clear()
        with pytest.raises(Missing):
            transfer.get(NAME, start, length)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1), (-5, None)])
def test_what_is_no_range(server: Faulty, start: int, length: int | None) -> None:
    with transfer_to(server) as transfer, pytest.raises(UsageError):
        transfer.get(NAME, start, length)
    assert server.requests == []


def test_a_name_that_is_taken(server: Faulty) -> None:
    with transfer_to(server) as transfer:
        info = put(transfer, b"first")
        assert put(transfer, b"first") == info
        for other in (b"other", b"longer than that", b""):
            with pytest.raises(Exists):
                put(transfer, other)
    assert server.objects["/" + NAME] == b"first"


def test_a_name_that_is_taken_where_etags_say_nothing(server: Faulty) -> None:
    first, other = os.urandom(3 * MIB), os.urandom(3 * MIB)
    with transfer_to(server, md5=False) as transfer:
        assert put(transfer, first) == PutInfo(NAME, len(first))
        assert put(transfer, first) == PutInfo(NAME, len(first))
        with pytest.raises(Exists):
            put(transfer, other)


def test_a_name_that_is_taken_and_nothing_to_read_it_by(server: Faulty) -> None:
    with transfer_to(server, read=False) as transfer:
        put(transfer, b"first")
        with pytest.raises(Exists):
            put(transfer, b"first")


# what fails once


LOST = Fault(acts=True, reset=-1)
FAULTS = {
    "503": Fault(503, {}, EARLY),
    "429": Fault(429),
    "500": Fault(500, {}, b"<Error><Code>InternalError</Code></Error>"),
    "408": Fault(408),
    "400 RequestTimeout": Fault(400, {}, b"<Error><Code>RequestTimeout</Code></Error>"),
    "200 with an error": Fault(
        200, {"Content-Type": "application/xml"}, b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code></Error>'
    ),
    "a reset before the answer": Fault(200, reset=-1),
    "an end before the answer": Fault(200, ends=-1),
    "a page of somebody else": Fault(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"),
}


@pytest.mark.parametrize("verb", ["put", "get"])
@pytest.mark.parametrize("what", FAULTS)
def test_one_fault_is_one_retry(what: str, verb: str, time: Time) -> None:
    if (what, verb) == ("a page of somebody else", "put"):
        return
    with Faulty({1: FAULTS[what]}) as server, transfer_to(server, time) as transfer:
        server.objects["/" + NAME] = data = b"0123456789"
        if verb == "put":
            server.objects.clear()
            assert put(transfer, data).size == 10
        else:
            assert transfer.get(NAME, 2, 5) == data[2:7]
        assert server.objects["/" + NAME] == data
        assert len(server.requests) == 2
        assert transfer.counters()[:2] == (2, 1)
    assert time.waits == [0.2]


def test_a_put_whose_answer_was_lost(time: Time) -> None:
    for read in (True, False):
        with Faulty({1: LOST}) as server, transfer_to(server, time, read=read) as transfer:
            assert put(transfer, b"first") == PutInfo(NAME, 5, "md5", hashlib.md5(b"first").digest())
            assert server.objects["/" + NAME] == b"first"


def test_a_lost_answer_does_not_make_anothers_object_ours(time: Time) -> None:
    with Faulty({1: Fault(200, reset=-1)}) as server, transfer_to(server, time) as transfer:
        server.objects["/" + NAME] = b"theirs"
        with pytest.raises(Exists):
            put(transfer, b"mine")


def test_a_body_that_was_not_heard_to_its_end_is_not_taken_for_stored(time: Time) -> None:
    """The name is taken by another, and there is nothing to read it by: only what was sent whole can be ours."""
    data = os.urandom(16 * MIB)
    with Faulty({1: Fault(hears=1000)}) as server, transfer_to(server, time, read=False) as transfer:
        server.objects["/" + NAME] = b"theirs"
        with pytest.raises(Exists):
            put(transfer, data)
    assert len(server.requests) == 2


def test_an_answer_that_comes_before_the_body_was_heard(time: Time) -> None:
    data = os.urandom(16 * MIB)
    with Faulty({1: Fault(503, {}, EARLY, hears=1000, ends=len(EARLY))}) as server, transfer_to(server, time) as transfer:
        assert put(transfer, data).size == len(data)
    assert server.objects["/" + NAME] == data


@pytest.mark.parametrize("way", ["reset", "ends"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_broke(way: str, ranges: bool, time: Time) -> None:
    data = os.urandom(5 * MIB)
    broken = Fault(ends=2 * MIB, ranges=ranges) if way == "ends" else Fault(reset=2 * MIB, ranges=ranges)
    with Faulty({1: broken, 2: broken._replace(ends=17, reset=None)}) as server, transfer_to(server, time) as transfer:
        server.objects["/" + NAME] = data
        out = bytearray(4 * MIB)
        transfer.get_into(NAME, 100, memoryview(out))
    assert out == data[100 : 100 + 4 * MIB]
    first, second, third = (seen.headers["Range"] for seen in server.requests)
    assert first == f"bytes=100-{100 + 4 * MIB - 1}"
    assert int(second.split("=")[1].split("-")[0]) <= 100 + 2 * MIB
    if way == "ends" and ranges:
        assert second.startswith(f"bytes={100 + 2 * MIB}-")
        assert third.startswith(f"bytes={100 + 2 * MIB + 17}-")


def test_a_kept_connection_that_ended_costs_no_wait(time: Time) -> None:
    with Faulty({1: Fault(headers={"Keep-Alive": "x"}), 3: Fault(reset=-1)}) as server, transfer_to(server, time) as transfer:
        server.objects["/" + NAME] = b"0123456789"
        for _ in range(4):
            assert transfer.get(NAME) == b"0123456789"
    assert time.waits == []
    assert server.connections == 2


def test_a_server_that_says_when_is_heard(time: Time) -> None:
    script = {1: Fault(503, {"Retry-After": "7"}), 2: Fault(429, {"Retry-After": "9999"}), 3: Fault(503, {"Retry-After": "soon"})}
    with Faulty(script) as server, transfer_to(server, time) as transfer:
        put(transfer, b"x")
    assert time.waits == [7, 60, 0.8]


def test_a_server_that_stalls_is_left(time: Time) -> None:
    hold = threading.Event()
    options = Options(stall=0.2)
    with Faulty({1: Fault(hold=hold)}) as server, transfer_to(server, time, options=options) as transfer:
        assert put(transfer, b"x").size == 1
        hold.set()
    assert len(server.requests) == 2


# what fails for good


def test_what_the_store_refuses_is_not_asked_again(time: Time) -> None:
    denied = Fault(403, {}, b"<Error><Code>AccessDenied</Code><Message>key AKIA</Message></Error>")
    for verb in ("put", "get"):
        error = fails({1: denied}, Refused, time, verb=verb)
        assert "403 AccessDenied" in error.what
        assert "AKIA" not in str(error)
        assert not error.retryable
    fails({1: Fault(301, {"Location": "http://127.0.0.1:1/"})}, Refused, time)
    fails({1: Fault(501, {}, b"<Error><Code>NotImplemented</Code></Error>")}, Refused, time)
    fails({1: Fault(404, {}, b"<Error><Code>NoSuchBucket</Code></Error>")}, Refused, time, verb="get")
    fails({1: Fault(507)}, NoSpace, time)
    assert time.waits == []


def test_grants_that_ran_out(time: Time) -> None:
    expired = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    for verb in ("put", "get"):
        fails({1: Fault(403, {}, expired)}, GrantExpired, time, verb=verb)
        fails({1: Fault(400, {}, b"<Error><Code>ExpiredToken</Code></Error>")}, GrantExpired, time, verb=verb)
        fails({1: Fault(401, {}, b'{"status":401,"code":"expired_auth_token"}')}, GrantExpired, time, verb=verb)
        fails({1: Fault(403)}, GrantExpired, time, verb=verb, expires=100.0)
        fails({1: Fault(400, {}, b"<Error><Code>AccessDenied</Code></Error>")}, GrantExpired, time, verb=verb, expires=100.0)
        fails({1: Fault(403)}, Refused, time, verb=verb, expires=4e9)


def test_a_store_that_took_other_bytes(time: Time) -> None:
    with Faulty({1: Fault(etag='"' + "0" * 32 + '"')}) as server, transfer_to(server, time) as transfer, pytest.raises(Damaged):
        put(transfer, b"x")


@pytest.mark.parametrize("verb", ["put", "get"])
@pytest.mark.parametrize("fault", [Fault(503), Fault(200, reset=-1), Fault(200, {"Content-Type": "text/xml"}, b"<Error></Error>")])
def test_a_store_that_always_fails_is_given_up(fault: Fault, verb: str, time: Time) -> None:
    with Faulty(lambda number: fault) as server, transfer_to(server, time) as transfer:
        server.objects["/" + NAME] = b"0123456789"
        with pytest.raises(StorageUnavailable) as caught:
            put(transfer, b"x") if verb == "put" else transfer.get(NAME)
    assert caught.value.retryable
    assert caught.value.safe
    assert caught.value.remedy
    assert 250 < time.at <= 300


def test_nobody_there(time: Time) -> None:
    with Faulty() as server:
        pass
    with transfer_to(server, time) as transfer, pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1") as caught:
        transfer.get(NAME)
    assert caught.value.retryable
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://user:word@127.0.0.1/x", "http:///x", "http://127.0.0.1/a b", "http://127.0.0.1:port/x", "http://[::1/"]
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with Transfer(Grant(get={NAME: Request("GET", url)})) as transfer, pytest.raises(UsageError) as caught:
        transfer.get(NAME)
    assert "word" not in str(caught.value)
    assert "127" not in str(caught.value)


# many at once


def test_five_in_a_hundred_requests_fail() -> None:
    """And all arrives as it was sent, by not many more requests."""
    import random

    chance = random.Random(1)
    kinds = [*(FAULTS[what] for what in FAULTS if "page" not in what), LOST, Fault(reset=5000), Fault(ends=70_000), Fault(hears=10)]
    plan = [chance.choice(kinds) if chance.random() < 0.05 else None for _ in range(5000)]
    names = [f"{NAME}{number}" for number in range(200)]
    data = {name: os.urandom(chance.randrange(200_000)) for name in names}
    time = Time()
    with Faulty(lambda number: plan[number]) as server, transfer_to(server, time, *names) as transfer:
        with ThreadPoolExecutor(16) as pool:
            sizes = [info.size for info in pool.map(lambda name: put(transfer, data[name], name), names)]
            back = list(pool.map(transfer.get, names))
            ranges = list(pool.map(lambda name: transfer.get(name, len(data[name]) // 3, len(data[name]) // 3), names))
        counters = transfer.counters()
    assert sizes == [len(data[name]) for name in names]
    assert back == [data[name] for name in names]
    assert ranges == [data[name][len(data[name]) // 3 :][: len(data[name]) // 3] for name in names]
    assert counters.retries > 10
    assert len(server.requests) <= 1.3 * 3 * len(names)


def test_no_more_requests_at_once_than_allowed(server: Faulty) -> None:
    names = [f"{NAME}{number}" for number in range(50)]
    with transfer_to(server, None, *names, options=Options(connections=3)) as transfer, ThreadPoolExecutor(20) as pool:
        for info in pool.map(lambda name: put(transfer, b"x" * 1000, name), names):
            assert info.size == 1000
        assert transfer.counters().pace == 3
    assert server.connections <= 3


def test_a_limit_on_bytes_a_second(server: Faulty, time: Time) -> None:
    data = os.urandom(200_000)
    with transfer_to(server, time, options=Options(rate=100_000)) as transfer:
        put(transfer, data)
        assert time.at == pytest.approx(2.0)
        assert transfer.get(NAME) == data
        assert time.at == pytest.approx(4.0)
    assert max(time.waits) < 0.2  # in pieces so small that no connection is silent for long


def test_closing_ends_the_waiting() -> None:
    with Faulty(lambda number: Fault(503, {"Retry-After": "50"})) as server, ThreadPoolExecutor(1) as pool:
        transfer = transfer_to(server)
        waiting = pool.submit(transfer.get, NAME)
        server.wait_for(1)
        transfer.close()
        with pytest.raises(StorageUnavailable, match="called off"):
            waiting.result(60)

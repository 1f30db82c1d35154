"""A read of a range, told answers that stores give; and what their headers and bodies mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.errors import Damaged
from torpor.storage.answers import Span, code_of, content_range, etag_md5, is_error_page
from torpor.storage.fetch import Fetch
from torpor.storage.retry import Again


def fetch(start: int, length: int | None) -> Fetch:
    return Fetch("x/y", start, length)


def ranges(text: str) -> dict[str, str]:
    return {"Content-Range": text}


@pytest.mark.parametrize(("start", "length", "wanted"), [
    (0, None, None), (0, 0, "bytes=0-0"), (5, 0, "bytes=4-4"), (5, None, "bytes=4-"), (5, 3, "bytes=5-7"), (0, 1, "bytes=0-0"),
])  # fmt: skip
def test_what_is_asked_for(start: int, length: int | None, wanted: str | None) -> None:
    assert fetch(start, length).headers().get("Range") == wanted


@pytest.mark.parametrize("status", [206, 200])
def test_a_part_is_a_part_whatever_its_status(status: int) -> None:
    read = fetch(100, 1000)
    assert read.begin(status, ranges("bytes 100-1099/5000"), 1000) == 0
    assert len(read.space) == 1000
    read.add(300)
    assert read.headers() == {"Range": "bytes=400-1099"}
    assert read.begin(status, ranges("bytes 400-1099/5000"), None) == 0
    assert not read.done
    read.add(700)
    assert read.done


def test_the_whole_may_come_where_a_part_was_wanted() -> None:
    read = fetch(100, 1000)
    assert read.begin(200, {}, 5000) == 100
    read.add(10)
    assert read.begin(200, {}, 5000) == 110
    with pytest.raises(Damaged):
        fetch(100, 1000).begin(200, {}, 1099)


def test_the_rest_of_an_object_is_as_long_as_the_store_says() -> None:
    read = fetch(5, None)
    assert read.begin(206, ranges("bytes 4-9/10"), 6) == 1
    assert len(read.space) == 5
    read = fetch(10, None)
    assert read.begin(206, ranges("bytes 9-9/10"), 1) == 1
    assert read.done


@pytest.mark.parametrize(("text", "left"), [
    ("", 1000), ("bytes 0-999/5000", 1000), ("bytes 100-1099/5000", 999), ("bytes 100-1099/1000", 1000), ("bytes 100-99/5000", 0),
    ("bytes */5000", 0), ("items 100-1099/5000", 1000), ("bytes 100-1099/5000, 5", 1000), ("bytes 100-1099", 1000),
])  # fmt: skip
def test_parts_that_make_no_sense(text: str, left: int) -> None:
    with pytest.raises(Again):
        fetch(100, 1000).begin(206, ranges(text), left)


@pytest.mark.parametrize(("start", "length"), [(0, 1), (1, None), (1, 0), (5, 5)])
@pytest.mark.parametrize("text", ["", "bytes */0", "bytes */999"])
def test_a_range_that_is_not_there(start: int, length: int | None, text: str) -> None:
    with pytest.raises(Damaged):
        fetch(start, length).begin(416, ranges(text), 0)


def test_an_end_that_is_not_told() -> None:
    with pytest.raises(Again):
        fetch(0, None).begin(200, {}, None)
    read = fetch(0, 10)
    assert read.begin(206, ranges("bytes 0-9/*"), 10) == 0
    assert read.begin(200, {}, None) == 0


@given(st.text(max_size=60), st.binary(max_size=200))
def test_anything_can_be_said(text: str, body: bytes) -> None:
    span = content_range(text)
    assert span is None or span.first <= span.last
    assert len(etag_md5(text)) in (0, 16)
    assert len(code_of(body)) <= 80
    is_error_page(body)


def test_ranges_codes_and_digests() -> None:
    assert content_range(" bytes 1-2/3") == Span(1, 2, 3)
    assert content_range("bytes */3") == Span(-1, -1, 3)
    assert code_of(b"<?xml?><Error><Code>SlowDown</Code>") == "SlowDown"
    assert code_of(b'{"status": 401, "code": "expired_auth_token", "message": "x"}') == "expired_auth_token"
    assert code_of(b'{"error": {"errors": [{"reason": "rateLimitExceeded"}]}}') == "rateLimitExceeded"
    assert code_of(b"<Code>https://x/y?sig</Code>") == ""
    md5 = "00112233445566778899aabbccddeeff"
    assert etag_md5(f'"{md5}"') == etag_md5(md5.upper()) == bytes.fromhex(md5)
    assert etag_md5(f'"{md5}-3"') == etag_md5(f'W/"{md5}"') == etag_md5(f'"{md5}"', "aws:kms") == b""

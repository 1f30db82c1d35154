"""`https:` and `http:` requests: packs in a store that speaks HTTP, by the URLs that the control side has signed.

No body is copied: a put sends from the caller's buffers, a get reads into the caller's. What is repeated, and when, is in retry.py;
how many requests there are at once in pace.py. Redirects are not followed: a signature is for one place.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from torpor import __version__
from torpor.clock import SYSTEM
from torpor.errors import Damaged, StorageUnavailable
from torpor.storage.answers import Taken, content_range, etag_md5, failure, goog_md5, is_error_page, taken
from torpor.storage.base import parts_of
from torpor.storage.fetch import Fetch
from torpor.storage.options import DEFAULT, Counters, Options, Tally
from torpor.storage.pace import Pace
from torpor.storage.rate import Rate
from torpor.storage.retry import Again, Timing, Tries, system_timing
from torpor.storage.transfer import PutInfo
from torpor.storage.wire import PIECE, Answer, Wire, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from typing_extensions import Buffer

    from torpor.clock import Clock
    from torpor.storage.grants import Call

    T = TypeVar("T")

_AGENT = {"User-Agent": f"torpor/{__version__}", "Accept-Encoding": "identity"}


class HttpTransport:
    """Moves bytes over HTTP/1.1 for any number of threads, `options.connections` of them at once.

    Memory: a connection holds 8 KiB, with TLS 33 KiB, and what the kernel buffers; bodies stay in the caller's memory.
    """

    def __init__(self, options: Options = DEFAULT, timing: Timing | None = None, clock: Clock = SYSTEM) -> None:
        self._closed = threading.Event()
        self._options = options
        self._timing = timing or system_timing(self._closed.wait)
        self._clock = clock
        self._wire = Wire(options)
        self._pace = Pace(options.connections, self._timing.now)
        self._rate = Rate(options.rate, self._timing)
        self._tally = Tally()

    def counters(self) -> Counters:
        return self._tally.read(self._pace.limit)

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        views = parts_of(parts)
        size = sum(len(view) for view in views)
        headers = {**_AGENT, **call.headers, "Content-Length": str(size)}
        md5 = _md5(views) if call.digest else b""
        maybe = call.again  # whether a try before may have taken effect

        def put_once() -> PutInfo:
            answer = self._wire.send(call.method, call.url, headers, views, self._sending)
            try:
                body = answer.text() if answer.left != 0 else b""
                if answer.status not in (200, 201, 204) or is_error_page(body):
                    raise self._failure(call, answer, body)
                return _put_info(call, size, md5, answer)
            finally:
                answer.end()

        def put_or_note() -> PutInfo:
            nonlocal maybe
            try:
                return put_once()
            except Again as failure:
                maybe = maybe or failure.sent
                raise

        try:
            return self._try(call, put_or_note)
        except Taken:
            found = self._what_is_there(call, size, md5, blake3, maybe)
            if found is None:
                raise taken(call, str(split(call.url)[0])) from None
            return found

    def get(self, call: Call, start: int, length: int | None) -> bytes:
        fetch = Fetch(call.name, start, length)
        self._fetch(call, fetch)
        return b"" if fetch.out is None else bytes(fetch.out)

    def get_into(self, call: Call, start: int, out: memoryview) -> None:
        self._fetch(call, Fetch(call.name, start, out.nbytes, out.cast("B")))

    def sync(self, calls: Iterable[Call]) -> None:
        return None  # a store of this kind answers a put once it is durable

    def close(self) -> None:
        """Ends waiting between tries too: those calls raise `StorageUnavailable`."""
        self._closed.set()
        self._wire.close()

    def _fetch(self, call: Call, fetch: Fetch, seen: Callable[[Answer], None] | None = None) -> None:
        """Read all that `fetch` wants. `seen` is shown each answer that has some of it."""

        def read_once() -> None:
            answer = self._wire.send(call.method, call.url, {**_AGENT, **call.headers, **fetch.headers()})
            try:
                kind = answer.header("Content-Type")
                if answer.status not in (200, 206, 416) or (answer.status != 416 and ("/xml" in kind or "/html" in kind)):
                    raise self._failure(call, answer, answer.text())
                pass_over = fetch.begin(answer.status, {"Content-Range": answer.header("Content-Range")}, answer.left)
                if seen is not None:
                    seen(answer)
                self._receive(answer, fetch, pass_over, tries)
                if answer.left is not None and 0 < answer.left <= PIECE:
                    answer.text()
            finally:
                answer.end()

        tries = self._tries(call)
        while not fetch.done:
            self._try(call, read_once, tries)

    def _receive(self, answer: Answer, fetch: Fetch, pass_over: int, tries: Tries) -> None:
        aside = memoryview(bytearray(min(pass_over, self._wire.piece)))
        while pass_over or not fetch.done:
            try:
                count = answer.read_into(aside[:pass_over] if pass_over else fetch.space[: self._wire.piece])
            finally:
                if not pass_over:
                    fetch.add(answer.got)
                self._tally.add(received=answer.got)
                self._pace.moved(answer.got)
            if not count:
                raise Again("the store ended its answer too early")
            if pass_over:
                pass_over -= count
            else:
                tries.progress()
            self._rate.take(count)

    def _what_is_there(self, call: Call, size: int, md5: bytes, blake3: bytes, maybe: bool) -> PutInfo | None:
        """The info of the object that has the name, if it is the very one that was to be written; None if it is another.

        With a grant to read it: its MD5 and size if the store tells them, else all of its bytes. Without one, nothing can be asked.
        Then it is ours if a try before was sent whole and its answer lost: names are never used twice, so nobody else writes this one;
        and the control side counts sizes and digests again before it commits.
        """
        ours = PutInfo(call.name, size, "md5", md5) if md5 else PutInfo(call.name, size)
        if call.look is None:
            return ours if maybe else None
        told: list[tuple[int | None, bytes]] = []

        def seen(answer: Answer) -> None:
            span = content_range(answer.header("Content-Range"))
            told.append((span.total if span else answer.left if answer.status == 200 else None, _stored_md5(answer)))

        self._fetch(call.look, Fetch(call.name, 0, 0), seen)
        there, etag = told[0]
        if there is not None and there != size:
            return None
        if md5 and etag and there is not None:
            return ours if md5 == etag else None
        try:
            return ours if self._digest(call.look, size) == blake3 else None
        except Damaged:  # it is shorter
            return None

    def _digest(self, call: Call, size: int) -> bytes:
        from blake3 import blake3

        digest = blake3()
        space = memoryview(bytearray(min(size, 4 * PIECE)))
        for at in range(0, size, 4 * PIECE):
            out = space[: min(len(space), size - at)]
            self._fetch(call, Fetch(call.name, at, len(out), out))
            digest.update(out)
        return digest.digest()

    def _try(self, call: Call, once: Callable[[], T], tries: Tries | None = None) -> T:
        """Do it until it succeeds, fails for good, or has failed for too long."""
        tries = tries or self._tries(call)
        again = False
        while True:
            try:
                return self._once(once, again)
            except Again as failure:
                tries.wait(failure)
            if self._closed.is_set():
                raise StorageUnavailable(f"The transfer of {call.name} was called off.", safe="What is in storage already is as it was.")
            again = True

    def _once(self, once: Callable[[], T], again: bool) -> T:
        with self._pace.turn():
            self._tally.add(requests=1, retries=int(again))
            try:
                return once()
            except Again as failure:
                if failure.busy:
                    self._pace.busy()
                raise

    def _tries(self, call: Call) -> Tries:
        verb = "Reading" if call.method == "GET" else "Writing"
        return Tries(f"{verb} {call.name} at {split(call.url)[0]}", call.patience or self._options.deadline, self._timing)

    def _failure(self, call: Call, answer: Answer, body: bytes) -> Exception:
        place = str(split(call.url)[0])
        return failure(answer.status, body, answer.header("Retry-After"), call, place, self._clock.now(), answer.sent)

    def _sending(self, count: int) -> None:
        self._rate.take(count)
        self._tally.add(sent=count)
        self._pace.moved(count)


def _md5(views: Sequence[memoryview]) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for view in views:
        digest.update(view)
    return digest.digest()


def _stored_md5(answer: Answer) -> bytes:
    """What the store says; empty if nothing. Google has a header for it, and its ETag need not be one."""
    if hashes := answer.header("x-goog-hash"):
        return goog_md5(hashes)
    return etag_md5(answer.header("ETag"), answer.header("x-amz-server-side-encryption"))


def _put_info(call: Call, size: int, md5: bytes, answer: Answer) -> PutInfo:
    """What the store says of the object it has just taken; `Damaged` if it is not what was sent."""
    if not md5:
        return PutInfo(call.name, size)
    etag = _stored_md5(answer)
    if etag and etag != md5:
        raise Damaged(
            f"The store has other bytes of {call.name} than were sent.",
            safe="Nothing refers to them: no snapshot was made of them.",
            remedy="Run the command again, which uses other names; if it happens again, check the store and what lies between.",
        )
    return PutInfo(call.name, size, "md5", md5)

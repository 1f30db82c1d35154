"""HTTP clients that bench_http measures, each behind the same two calls. A client that is not installed has no row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import MIB

Parts = list[memoryview]


class Client(ABC):
    """One thread's client. `url` is an object's."""

    packages: tuple[str, ...] = ()

    def __init__(self, url: str, certificate: str) -> None:
        self.url = url
        self.certificate = certificate

    @abstractmethod
    def put(self, parts: Parts) -> None: ...

    @abstractmethod
    def get_into(self, start: int, out: memoryview) -> None: ...


def _head(parts: Parts) -> dict[str, str]:
    return {"Content-Length": str(sum(map(len, parts)))}


def _range(start: int, out: memoryview) -> dict[str, str]:
    return {"Range": f"bytes={start}-{start + len(out) - 1}"}


def _pieces(parts: Parts) -> Iterator[memoryview]:
    for part in parts:
        for at in range(0, len(part), MIB // 4):
            yield part[at : at + MIB // 4]


class Torpor(Client):
    """All of torpor's transport, with its retries, its pace and its counters."""

    shared: Any = None

    def __init__(self, url: str, certificate: str) -> None:
        from torpor.storage.grants import Call
        from torpor.storage.transport_http import HttpTransport

        Torpor.shared = Torpor.shared or HttpTransport()
        self._put, self._get = (Call("x/y", verb, url, {}, 0) for verb in ("PUT", "GET"))

    def put(self, parts: Parts) -> None:
        self.shared.put(self._put, parts, b"")

    def get_into(self, start: int, out: memoryview) -> None:
        self.shared.get_into(self._get, start, out)


class Standard(Client):
    def __init__(self, url: str, certificate: str) -> None:
        import ssl
        from http.client import HTTPConnection, HTTPSConnection

        place = urlsplit(url)
        assert place.hostname is not None
        if place.scheme == "https":
            context = ssl.create_default_context(cafile=certificate)
            self._connection: HTTPConnection = HTTPSConnection(place.hostname, place.port, context=context)
        else:
            self._connection = HTTPConnection(place.hostname, place.port)

    def put(self, parts: Parts) -> None:
        self._connection.request("PUT", "/x", _pieces(parts), _head(parts))
        assert self._connection.getresponse().read() == b""

    def get_into(self, start: int, out: memoryview) -> None:
        self._connection.request("GET", "/x", headers=_range(start, out))
        answer, at = self._connection.getresponse(), 0
        while at < len(out):
            at += answer.readinto(out[at : at + MIB // 4])
        answer.read()


class Urllib3(Client):
    packages = ("urllib3",)

    def __init__(self, url: str, certificate: str) -> None:
        import urllib3

        super().__init__(url, certificate)
        self._pool = urllib3.PoolManager(ca_certs=certificate or None)

    def put(self, parts: Parts) -> None:
        assert self._pool.urlopen("PUT", self.url, body=_pieces(parts), headers=_head(parts)).status == 200

    def get_into(self, start: int, out: memoryview) -> None:
        answer = self._pool.request("GET", self.url, headers=_range(start, out), preload_content=False, decode_content=False)
        at = 0
        while at < len(out):
            at += answer.readinto(out[at : at + MIB // 4])
        answer.release_conn()


class Httpx(Client):
    packages = ("httpx", "httpcore", "h11", "anyio", "certifi", "idna")

    def __init__(self, url: str, certificate: str) -> None:
        import ssl

        import httpx

        super().__init__(url, certificate)
        self._client = httpx.Client(verify=ssl.create_default_context(cafile=certificate) if certificate else True)

    def put(self, parts: Parts) -> None:
        assert self._client.put(self.url, content=_pieces(parts), headers=_head(parts)).status_code == 200  # type: ignore[arg-type]

    def get_into(self, start: int, out: memoryview) -> None:
        at = 0
        with self._client.stream("GET", self.url, headers=_range(start, out)) as answer:
            for piece in answer.iter_raw():
                out[at : at + len(piece)] = piece
                at += len(piece)
        assert at == len(out)


class Pycurl(Client):
    packages = ("pycurl",)

    def __init__(self, url: str, certificate: str) -> None:
        pycurl: Any = import_module("pycurl")

        self._curl = pycurl.Curl()
        for option, value in {
            pycurl.URL: url, pycurl.NOSIGNAL: 1, pycurl.BUFFERSIZE: 512 * 1024, pycurl.UPLOAD_BUFFERSIZE: 2 * MIB,
            pycurl.HTTPHEADER: ["Expect:"],
        }.items():  # fmt: skip
            self._curl.setopt(option, value)
        if certificate:
            self._curl.setopt(pycurl.CAINFO, certificate)
        self._pycurl = pycurl

    def put(self, parts: Parts) -> None:
        whole, at = parts, [0, 0]

        def read(count: int) -> bytes:
            if at[0] == len(whole):
                return b""
            found = bytes(whole[at[0]][at[1] : at[1] + count])
            at[1] += len(found)
            if at[1] == len(whole[at[0]]):
                at[:] = [at[0] + 1, 0]
            return found

        curl = self._pycurl
        for option, value in {
            curl.UPLOAD: 1, curl.READFUNCTION: read, curl.INFILESIZE_LARGE: sum(map(len, parts)), curl.WRITEFUNCTION: len,
        }.items():  # fmt: skip
            self._curl.setopt(option, value)
        self._curl.perform()

    def get_into(self, start: int, out: memoryview) -> None:
        at = 0

        def write(data: bytes) -> None:
            nonlocal at
            out[at : at + len(data)] = data
            at += len(data)

        curl = self._pycurl
        for option, value in {curl.HTTPGET: 1, curl.RANGE: f"{start}-{start + len(out) - 1}", curl.WRITEFUNCTION: write}.items():
            self._curl.setopt(option, value)
        self._curl.perform()
        assert at == len(out)


class Obstore(Client):
    """A signed URL would be a store of its own: a query goes with a store, not with an object. Here one store serves all."""

    packages = ("obstore",)
    shared: Any = None

    def __init__(self, url: str, certificate: str) -> None:
        obstore: Any = import_module("obstore")
        import_module("obstore.store")

        self._obstore = obstore
        if Obstore.shared is None:
            options = {"allow_http": True, "allow_invalid_certificates": True}
            Obstore.shared = obstore.store.HTTPStore.from_url(url.removesuffix("/x"), client_options=options)

    def put(self, parts: Parts) -> None:
        self._obstore.put(self.shared, "x", iter(parts), use_multipart=False)

    def get_into(self, start: int, out: memoryview) -> None:
        out[:] = memoryview(self._obstore.get_range(self.shared, "x", start=start, end=start + len(out)))


CLIENTS: dict[str, type[Client]] = {
    "torpor": Torpor, "http.client": Standard, "urllib3": Urllib3, "httpx": Httpx, "pycurl": Pycurl, "obstore": Obstore,
}  # fmt: skip


def installed() -> list[str]:
    return [name for name, client in CLIENTS.items() if all(find_spec(package) for package in client.packages)]

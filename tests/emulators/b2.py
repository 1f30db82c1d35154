"""Backblaze B2's native API over HTTP, for the real b2sdk and for torpor's own transport, with faults by script.

with B2() as b2:
    b2.realm, b2.bucket, b2.key_id, b2.key
    b2.faults.add("b2_upload_file", Refusal(503, "service_unavailable"), RESET)
    b2.requests
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import socketserver
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

from tests.emulators.b2_service import PAGE_MAX, Bucket, Refusal, Service, Token, Version
from torpor.clock import SYSTEM, Clock

API = "/b2api/v4/"


class Cut(NamedTuple):
    """The connection is reset: in the middle of the request, or after it was done and before its answer."""

    when: Literal["during", "after"]


RESET = Cut("during")
LOST = Cut("after")


class Seen(NamedTuple):
    """One request. `endpoint` is the call's name, or "download"."""

    endpoint: str
    method: str
    path: str
    headers: dict[str, str]


class Faults:
    """What goes wrong next, by endpoint, in order; None: nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, deque[Refusal | Cut | None]] = defaultdict(deque)

    def add(self, endpoint: str, *faults: Refusal | Cut | None) -> None:
        with self._lock:
            self._next[endpoint].extend(faults)

    def take(self, endpoint: str) -> Refusal | Cut | None:
        with self._lock:
            return self._next[endpoint].popleft() if self._next[endpoint] else None

    @property
    def left(self) -> int:
        return sum(map(len, self._next.values()))


class B2:
    """A service with one account, one bucket and one key that may do everything. `clock` ends keys and tokens.

    `page`: names in a page of a list, however many are asked for; as its API says, there may be fewer.
    """

    def __init__(self, clock: Clock = SYSTEM, page: int = PAGE_MAX) -> None:
        self.service = Service(clock, page)
        self.the_bucket = self.service.make_bucket("torpor-tests")
        key = self.service.make_key()
        self.bucket, self.key_id, self.key = self.the_bucket.name, key.id, key.secret
        self.requests: list[Seen] = []
        self.faults = Faults()
        self.full: Refusal | None = None  # the answer to every upload below packs/, after the faults

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def seen(self, endpoint: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.endpoint == endpoint]

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.service.realm = self.realm
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(timeout=60)
        self._server.close_all()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, b2: B2) -> None:
        self.b2 = b2
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without the look-up of its own name, which can take a second
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the tests' concern; what the service did wrong shows as a cut connection."""

    def close_all(self) -> None:
        for connection in list(self._open):
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        b2, path = self.server.b2, urlsplit(self.path).path
        endpoint = "download" if path.startswith("/file/") else path.removeprefix(API).split("/")[0]
        b2.requests.append(Seen(endpoint, self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        fault = b2.faults.take(endpoint)
        size = int(self.headers.get("Content-Length") or 0)
        if fault == RESET:
            self.rfile.read(size // 2)
            self._cut()
            return
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return  # the client broke off, and nothing is stored
        try:
            if isinstance(fault, Refusal):
                raise fault
            answer = self._download(path) if endpoint == "download" else self._call(endpoint, path, body)
        except Refusal as refusal:
            answer = _Answer(
                refusal.status,
                {"Content-Type": "application/json", **refusal.headers},
                json.dumps({"status": refusal.status, "code": refusal.code, "message": refusal.message}).encode(),
            )
        if fault == LOST:
            self._cut()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
        self.connection.close()

    def _call(self, endpoint: str, path: str, body: bytes) -> _Answer:
        b2, token = self.server.b2, self.headers.get("Authorization") or ""
        if endpoint == "b2_upload_file":
            result = self._upload(b2.service, token, body)
        elif endpoint == "b2_authorize_account":
            result = self._authorize(b2, token)
        else:
            call = CALLS.get(endpoint)
            if call is None or self.command != "POST":
                raise Refusal(404, "not_found", "no such call")
            try:
                result = call(b2.service, token, json.loads(body))
            except (KeyError, TypeError, ValueError) as error:
                raise Refusal(400, "bad_json", f"{error!r}") from None
        return _Answer(200, {"Content-Type": "application/json"}, json.dumps(result).encode())

    def _authorize(self, b2: B2, basic: str) -> dict[str, Any]:
        kind, _, coded = basic.partition(" ")
        if kind != "Basic":
            raise Refusal(401, "bad_auth_token")
        key_id, _, secret = base64.b64decode(coded).decode().partition(":")
        result = b2.service.authorize(key_id, secret)
        storage = {
            "absoluteMinimumPartSize": 5_000_000, "recommendedPartSize": 100_000_000, "infoType": "storageApi",
            "apiUrl": b2.realm, "downloadUrl": b2.realm, "s3ApiUrl": b2.realm, "allowed": result.pop("allowed"),
        }  # fmt: skip
        return {**result, "apiInfo": {"storageApi": storage, "groupsApi": {"infoType": "groupsApi"}}}

    def _upload(self, service: Service, token: str, body: bytes) -> dict[str, Any]:
        if self.headers.get("Content-Length") is None:
            raise Refusal(400, "bad_request", "Content-Length is missing")
        name = unquote(self.headers.get("X-Bz-File-Name") or "", errors="strict")
        if not name or len(name.encode()) > 1024 or name[0] == "/" or name[-1] == "/" or "//" in name or "\\" in name:
            raise Refusal(400, "bad_request", "File names must not be empty, and no folder's")
        taken = service.begin_upload(token, name)
        try:
            if self.server.b2.full and "packs/" in name:
                raise self.server.b2.full
            digest = self.headers.get("X-Bz-Content-Sha1") or ""
            if hashlib.sha1(body, usedforsecurity=False).hexdigest() != digest:
                raise Refusal(400, "bad_request", "Sha1 did not match data received")
            return _file(service, service.bucket(taken.bucket), service.put(service.bucket(taken.bucket), name, body, digest))
        finally:
            taken.busy = False

    def _download(self, path: str) -> _Answer:
        service = self.server.b2.service
        bucket_name, _, name = unquote(path.removeprefix("/file/")).partition("/")
        bucket = next((bucket for bucket in service.buckets.values() if bucket.name == bucket_name), None)
        if bucket is None:
            raise Refusal(404, "not_found", f"Bucket does not exist: {bucket_name}")
        service.check_download(self.headers.get("Authorization") or "", bucket, name)
        version = bucket.newest(name)
        if version is None:
            raise Refusal(404, "not_found", f"File with such name does not exist: {name}")
        headers = {
            "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", "x-bz-file-id": version.id,
            "x-bz-file-name": quote(name), "x-bz-content-sha1": version.sha1, "X-Bz-Upload-Timestamp": str(version.timestamp),
        }  # fmt: skip
        status, data, total = 200, version.data, len(version.data)
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), min(int(last) + 1 if last else total, total)
            if start >= total:
                raise Refusal(416, "range_not_satisfiable", "The Range in the request is outside the size of the file")
            status, data = 206, data[start:end]
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        headers["Content-Length"] = str(len(data))
        return _Answer(status, headers, data)


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def _file(service: Service, bucket: Bucket, version: Version) -> dict[str, Any]:
    return {
        "accountId": service.account, "bucketId": bucket.id, "fileId": version.id, "fileName": version.name, "action": version.action,
        "contentLength": len(version.data), "contentSha1": version.sha1, "contentType": "application/octet-stream", "fileInfo": {},
        "uploadTimestamp": version.timestamp,
    }  # fmt: skip


def _list_buckets(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    chosen = [b for b in service.buckets.values() if body.get("bucketName") in (None, b.name) and body.get("bucketId") in (None, b.id)]
    narrow = len(chosen) == 1 and (body.get("bucketName") or body.get("bucketId"))
    service.check(token, "listBuckets", chosen[0].id if narrow else None)
    return {"buckets": [{"accountId": service.account, "bucketId": b.id, "bucketName": b.name, "bucketType": "allPrivate"} for b in chosen]}


def _upload_url(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    key = service.check(token, "writeFiles", body["bucketId"])
    bucket = service.bucket(body["bucketId"])
    with service.lock:
        number = len(service.uploads)
        name = f"4_{hashlib.sha256(f'{token} {number}'.encode()).hexdigest()}_upld"
        service.uploads[name] = Token(key, service.tokens[token].expires, bucket.id)
    return {"bucketId": bucket.id, "uploadUrl": f"{service.realm}{API}b2_upload_file/{bucket.id}/c{number}", "authorizationToken": name}


def _page(service: Service, body: dict[str, Any]) -> int:
    count = body.get("maxFileCount") or 100
    if not 1 <= count <= PAGE_MAX:
        raise Refusal(400, "out_of_range", f"maxFileCount out of range: {count}")
    return min(int(count), service.page)


def _list_names(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    count, prefix, start = _page(service, body), body.get("prefix") or "", body.get("startFileName") or ""
    service.check(token, "listFiles", body["bucketId"], prefix)
    bucket = service.bucket(body["bucketId"])
    with service.lock:
        names = sorted(name for name in bucket.files if name.startswith(prefix) and name >= start)
        found = [version for version in map(bucket.newest, names) if version is not None]
    after = found[count].name if len(found) > count else None
    return {"files": [_file(service, bucket, version) for version in found[:count]], "nextFileName": after}


def _list_versions(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    count, prefix = _page(service, body), body.get("prefix") or ""
    service.check(token, "listFiles", body["bucketId"], prefix)
    bucket = service.bucket(body["bucketId"])
    found = list(service.versions(bucket, prefix, body.get("startFileName") or "", body.get("startFileId") or ""))
    after = found[count] if len(found) > count else None
    files = [_file(service, bucket, version) for version in found[:count]]
    return {"files": files, "nextFileName": after and after.name, "nextFileId": after and after.id}


def _delete_version(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    bucket = next((b.id for b in service.buckets.values() if body["fileName"] in b.files), None)
    service.check(token, "deleteFiles", bucket, body["fileName"])
    service.delete_version(body["fileName"], body["fileId"])
    return {"fileId": body["fileId"], "fileName": body["fileName"]}


def _hide(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    service.check(token, "writeFiles", body["bucketId"], body["fileName"])
    bucket = service.bucket(body["bucketId"])
    if bucket.newest(body["fileName"]) is None:
        raise Refusal(400, "no_such_file", f"File not present: {body['fileName']}")
    return _file(service, bucket, service.put(bucket, body["fileName"], b"", "none", "hide"))


def _create_key(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    key = service.create_key(token, body)
    return {
        "accountId": service.account, "applicationKeyId": key.id, "applicationKey": key.secret, "keyName": body["keyName"],
        "capabilities": sorted(key.capabilities), "bucketIds": body.get("bucketIds"), "namePrefix": key.prefix,
        "expirationTimestamp": key.expires and int(key.expires * 1000),
    }  # fmt: skip


def _delete_key(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    service.check(token, "deleteKeys")
    if service.keys.pop(body["applicationKeyId"], None) is None:
        raise Refusal(400, "bad_request", "application key does not exist")
    return {"accountId": service.account, "applicationKeyId": body["applicationKeyId"]}


def _download_token(service: Service, token: str, body: dict[str, Any]) -> dict[str, Any]:
    name = service.download_token(token, body)
    return {"bucketId": body["bucketId"], "fileNamePrefix": body["fileNamePrefix"], "authorizationToken": name}


CALLS: dict[str, Callable[[Service, str, dict[str, Any]], dict[str, Any]]] = {
    "b2_create_key": _create_key,
    "b2_delete_file_version": _delete_version,
    "b2_delete_key": _delete_key,
    "b2_get_download_authorization": _download_token,
    "b2_get_upload_url": _upload_url,
    "b2_hide_file": _hide,
    "b2_list_buckets": _list_buckets,
    "b2_list_file_names": _list_names,
    "b2_list_file_versions": _list_versions,
}

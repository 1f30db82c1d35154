"""The JSON API of the emulated Google Cloud Storage, as far as its Python client uses it: upload, download, list, delete, batch."""

from __future__ import annotations

import email
import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.emulators.gcs_service import Refusal, Service, Stored
from torpor.clock import rfc3339


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes = b""


class Request(NamedTuple):
    """`path` as it was sent, without the query; names of headers in small."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def options(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))


_OBJECT = re.compile(r"(?:/download|/upload)?/storage/v1/b/([^/]+)/o(?:/([^/]+))?")


def operation(method: str, path: str, query: str) -> str:
    """What a request is for: the names that scripts of faults use."""
    if path == "/token":
        return "token"
    if path == "/batch/storage/v1":
        return "batch"
    if not _OBJECT.fullmatch(path):
        return f"signed {method}"
    options = dict(parse_qsl(query))
    if path.startswith("/upload/"):
        return "resume" if "upload_id" in options else "resumable" if options.get("uploadType") == "resumable" else "insert"
    if method == "DELETE":
        return "delete"
    if options.get("alt") == "media":
        return "media"
    return "list" if path.endswith("/o") else "get"


PAGE_MAX = 1000


class JsonApi:
    """`before` is called with the operation of each call inside a batch, and may refuse it. `page`: as many names as a list has."""

    def __init__(self, service: Service, before: Callable[[str], None], page: int = PAGE_MAX) -> None:
        self._service = service
        self._before = before
        self._page = page
        self._sessions: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
        self._finished: dict[str, Answer] = {}
        self._numbers = itertools.count(1)

    def answer(self, request: Request) -> Answer:
        service = self._service
        if request.path == "/token":
            try:
                return _json(service.issue(dict(parse_qsl(request.body.decode()))))
            except Refusal as refusal:
                return _json({"error": refusal.reason, "error_description": refusal.message}, refusal.status)
        service.check_token(request.headers.get("authorization", ""))
        if request.path == "/batch/storage/v1":
            return self._batch(request)
        found = _OBJECT.fullmatch(request.path)
        if found is None:
            raise Refusal(404, "notFound", "Not Found")
        service.check_bucket(unquote(found[1]))
        name, options = unquote(found[2] or ""), request.options
        if request.path.startswith("/upload/"):
            return self._upload(request, options)
        if not name:
            return self._list(options)
        if request.method == "DELETE":
            service.delete(name)
            return Answer(204, {})
        if options.get("alt") == "media":
            return media(service.find(name), request.headers.get("range", ""), options.get("generation"))
        return _json(self._resource(name, service.find(name)))

    def _resource(self, name: str, stored: Stored) -> dict[str, Any]:
        return {
            "kind": "storage#object", "name": name, "bucket": self._service.bucket, "generation": str(stored.generation),
            "size": str(len(stored.data)), "md5Hash": stored.md5, "crc32c": stored.crc32c, "metadata": dict(stored.metadata),
            "timeCreated": rfc3339(stored.created), "updated": rfc3339(stored.created), "metageneration": "1",
        }  # fmt: skip

    def _upload(self, request: Request, options: dict[str, str]) -> Answer:
        kind = options["uploadType"]
        if kind == "multipart":
            parts = _multipart(request)
            return self._insert(options, json.loads(parts[0][1]), parts[1][1])
        if kind != "resumable":
            return self._insert(options, {"name": options["name"]}, request.body)
        if request.method == "POST":
            number = f"session-{next(self._numbers)}"
            self._sessions[number] = (options, json.loads(request.body))
            where = f"http://{request.headers['host']}{request.path}?uploadType=resumable&upload_id={number}"
            return Answer(200, {"Location": where, "X-GUploader-UploadID": number})
        session = options["upload_id"]
        if session in self._finished:
            return self._finished[session]  # the client did not get the answer
        whole = f"bytes 0-{len(request.body) - 1}/{len(request.body)}"
        if request.headers.get("content-range") != whole:
            raise Refusal(400, "badRequest", f"this emulator takes a resumable upload in one piece, {whole}")
        begun, resource = self._sessions[session]
        return self._finished.setdefault(session, self._insert(begun, resource, request.body))

    def _insert(self, options: dict[str, str], resource: dict[str, Any], data: bytes) -> Answer:
        name = resource.get("name") or options["name"]
        stored = self._service.write(name, data, options.get("ifGenerationMatch"), resource.get("md5Hash"), resource.get("metadata"))
        return _json(self._resource(name, stored))

    def _list(self, options: dict[str, str]) -> Answer:
        prefix, after, limit = options.get("prefix", ""), options.get("pageToken", ""), int(options.get("maxResults", "1000"))
        with self._service.lock:
            found = sorted((name, stored) for name, stored in self._service.objects.items() if name.startswith(prefix) and name > after)
        page = found[: min(limit, self._page)]
        answer: dict[str, Any] = {"kind": "storage#objects", "items": [self._resource(name, stored) for name, stored in page]}
        if len(page) < len(found):
            answer["nextPageToken"] = page[-1][0]
        return _json(answer)

    def _batch(self, request: Request) -> Answer:
        parts = _multipart(request)
        if len(parts) > 100:
            raise Refusal(400, "badRequest", "The batch request has too many calls.")
        answers = []
        for headers, content in parts:
            line, _, rest = content.decode().partition("\n")
            method, target, _ = line.split(" ", 2)
            inner = email.message_from_string(rest)
            url = urlsplit(target.strip())
            passed = {**request.headers, **{name.lower(): value for name, value in inner.items()}}
            try:
                self._before("batched " + operation(method, url.path, url.query))
                done = self.answer(Request(method, url.path, url.query, passed, b""))
            except Refusal as refusal:
                done = problem(refusal)
            told = f"HTTP/1.1 {done.status} Told\r\nContent-Length: {len(done.body)}\r\n\r\n".encode() + done.body
            which = headers.get("content-id", "<0>").strip("<>")
            answers.append(f"--batch\r\nContent-Type: application/http\r\nContent-ID: <response-{which}>\r\n\r\n".encode() + told + b"\r\n")
        return Answer(200, {"Content-Type": "multipart/mixed; boundary=batch"}, b"".join(answers) + b"--batch--\r\n")


def media(stored: Stored, asked: str, generation: str | None = None) -> Answer:
    """The bytes of an object, or a range of them."""
    if generation is not None and int(generation) != stored.generation:
        raise Refusal(404, "notFound", "No such object: that generation is gone", "NoSuchKey")
    size = len(stored.data)
    headers = {
        "Content-Type": "application/octet-stream", "x-goog-generation": str(stored.generation), "x-goog-stored-content-length": str(size),
        "x-goog-hash": f"crc32c={stored.crc32c},md5={stored.md5}", "x-goog-stored-content-encoding": "identity", "Accept-Ranges": "bytes",
    }  # fmt: skip
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if not found:
        return Answer(200, headers, stored.data)
    start, end = int(found[1]), min(int(found[2] or size) + 1, size)
    if start >= size:
        raise Refusal(416, "requestedRangeNotSatisfiable", "The requested range cannot be satisfied.", "InvalidRange")
    return Answer(206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}, stored.data[start:end])


def problem(refusal: Refusal) -> Answer:
    """An error as the JSON API tells it."""
    told = {"message": refusal.message, "domain": "global", "reason": refusal.reason}
    answer = _json({"error": {"code": refusal.status, "message": refusal.message, "errors": [told]}}, refusal.status)
    return answer._replace(headers={**answer.headers, **refusal.headers})


def _json(value: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode())


def _multipart(request: Request) -> list[tuple[dict[str, str], bytes]]:
    """Headers and content of each part, byte for byte."""
    found = re.search(r'boundary="?([^";]+)', request.headers["content-type"])
    assert found is not None
    parts = (b"\n" + request.body.replace(b"\r\n--", b"\n--")).split(b"\n--" + found[1].encode())[1:-1]
    out = []
    for part in parts:
        head, _, content = part.lstrip(b"\r\n").partition(b"\r\n\r\n" if b"\r\n\r\n" in part[:300] else b"\n\n")
        out.append(({name.lower(): value for name, value in email.message_from_bytes(head).items()}, content))
    return out

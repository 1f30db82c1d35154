"""One bucket of Backblaze B2 through b2sdk's session: one call a request. It authorizes itself, again when a token ran out."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from torpor.errors import StorageUnavailable
from torpor.storage.b2_errors import asking, is_kind, translate
from torpor.storage.base import Missing, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b2sdk.v3.exception import B2Error

    from torpor.settings import Secret

TRIES = 5
TIMEOUT = 120  # seconds without a byte
PAGE = 1000  # names; a longer page costs as much as several
_PIECE = 1 << 20


class File(NamedTuple):
    """One version. `action` is "upload" or "hide"; `sha1` in hex, or empty; `time` in seconds since 1970."""

    id: str
    name: str
    action: str
    size: int
    sha1: str
    time: float


class Client:
    """`where`: how errors call the place. Raises torpor's errors; opens no connection before the first call."""

    def __init__(self, where: str, realm: str, bucket: str, key_id: str, key: Secret) -> None:
        from b2sdk.v3 import exception  # so that a package that is missing is told of at once

        self._where = where
        self._realm = realm
        self.bucket = bucket
        self._key_id = key_id
        self._key = key
        self._b2 = exception
        self._lock = threading.Lock()
        self._ready: tuple[Any, str] | None = None

    @property
    def bucket_id(self) -> str:
        return self._open()[1]

    @property
    def download_url(self) -> str:
        return str(self._open()[0].account_info.get_download_url())

    def upload(self, name: str, data: bytes) -> File:
        """A new version of `name`. What the service calls busy, and a connection that broke, needs another upload URL."""
        session, bucket = self._open()
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        for left in reversed(range(TRIES)):
            try:
                answer = session.upload_file(bucket, name, len(data), "application/octet-stream", sha1, {}, io.BytesIO(data))
            except self._b2.B2Error as error:
                if left and (error.should_retry_upload() or error.should_retry_http()) and not _is_forbidden(error):
                    session.account_info.clear_bucket_upload_data(bucket)
                    time.sleep(min(error.retry_after_seconds or 0, TIMEOUT))
                    continue
                raise translate(error, "write", name, self._where) from None
            return _file(answer)
        raise AssertionError("unreachable")

    def download(self, name: str, start: int, out: memoryview | None, end: int = 0) -> tuple[bytes, int]:
        """Bytes from `start` up to `end` (0: all), into `out` if there is one. Also the size of the whole object.

        What is returned is short if the object is. `Missing` if there is none.
        """
        from requests import RequestException

        session, _ = self._open()
        url = session.get_download_url_by_name(self.bucket, name)
        chosen = (start, end - 1) if end else None
        for left in reversed(range(TRIES)):
            with asking("read", name, self._where):
                try:
                    with session.download_file_from_url(url, range_=chosen) as response:
                        if chosen and response.status_code != 206:
                            raise self._b2.UnknownError("a range was asked for")
                        return _read(response, out)
                except self._b2.UnsatisfiableRange:
                    return b"", self._shorter(name, start)
                except RequestException as error:  # it broke off, after the headers
                    if not left:
                        raise self._b2.B2ConnectionError(type(error).__name__) from None
        raise AssertionError("unreachable")

    def _shorter(self, name: str, start: int) -> int:
        """The size of an object that ends before `start`, as the service just said."""
        found = self.head(name)
        if found is None:
            raise Missing(f"{self._where} has no {name}.")
        if found.size > start:
            raise StorageUnavailable(f"{name} in {self._where} changed while it was read.", remedy="Run the command again.")
        return found.size

    def head(self, name: str) -> File | None:
        session, _ = self._open()
        with asking("read", name, self._where):
            try:
                found = session.get_file_info_by_name(self.bucket, name)
            except self._b2.B2Error as error:
                if not is_kind(error, "ResourceNotFound"):
                    raise
                return None
            size, stamp = int(found["content-length"]), int(found["x-bz-upload-timestamp"])
            return File(found["x-bz-file-id"], name, "upload", size, found["x-bz-content-sha1"] or "", stamp / 1000)

    def names(self, prefix: str) -> Iterator[File]:
        """The newest version of each visible name that begins with `prefix`, ascending."""
        session, bucket = self._open()
        start: str | None = prefix
        while start is not None:
            with asking("list", prefix, self._where):
                page = session.list_file_names(bucket, start, PAGE, prefix)
            yield from map(_file, page["files"])
            start = page["nextFileName"]

    def versions(self, name: str) -> list[File]:
        """All versions of just this name, hide markers too, newest first."""
        session, bucket = self._open()
        found: list[File] = []
        start: tuple[str, str | None] | None = (name, None)
        while start is not None and start[0] == name:  # no name that begins with it comes before it
            with asking("list", name, self._where):
                page = session.list_file_versions(bucket, start[0], start[1], PAGE, name)
            found += (file for file in map(_file, page["files"]) if file.name == name)
            start = (page["nextFileName"], page["nextFileId"]) if page["nextFileName"] else None
        return found

    def delete(self, version: File) -> None:
        """For good. One that is gone already is no error."""
        session, _ = self._open()
        with asking("delete", version.name, self._where), suppress(self._b2.FileNotPresent):
            session.delete_file_version(version.id, version.name)

    def make_key(self, label: str, capabilities: list[str], prefix: str, life: int) -> tuple[str, str]:
        """(id, key) of a new application key for names of this bucket that begin with `prefix`; it ends after `life` seconds."""
        session, bucket = self._open()
        with asking("grant", prefix, self._where):
            made = session.create_key(session.account_info.get_account_id(), capabilities, label, life, [bucket], prefix)
        return made["applicationKeyId"], made["applicationKey"]

    def end_key(self, key_id: str) -> None:
        """One that has ended already is no error."""
        session, _ = self._open()
        with asking("grant", "", self._where), suppress(self._b2.BadRequest):
            session.delete_key(key_id)

    def download_token(self, prefix: str, life: int) -> str:
        """Reads all names that begin with `prefix`, for `life` seconds."""
        session, bucket = self._open()
        with asking("grant", prefix, self._where):
            return str(session.get_download_authorization(bucket, prefix, life)["authorizationToken"])

    def _open(self) -> tuple[Any, str]:
        with self._lock:
            if self._ready is None:
                session = _new_session()
                with asking("open", "", self._where):
                    session.authorize_account(self._realm, self._key_id, self._key.reveal())
                    self._ready = session, self._find_bucket(session)
            return self._ready

    def _find_bucket(self, session: Any) -> str:
        allowed = session.account_info.get_allowed()["buckets"]
        if allowed:  # a key for some buckets: it knows their ids, and may not ask
            found = [bucket["id"] for bucket in allowed if bucket["name"] == self.bucket]
            if not found:
                raise self._b2.RestrictedBucket("")
        else:
            buckets = session.list_buckets(session.account_info.get_account_id(), bucket_name=self.bucket)["buckets"]
            found = [bucket["bucketId"] for bucket in buckets]
            if not found:
                raise self._b2.NonExistentBucket(self.bucket)
        return str(found[0])


def check_sha1(file: File, data: bytes, where: str) -> bytes:
    """The digest that the store keeps, if it is that of `data`."""
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    if file.sha1 != digest.hex() or file.size != len(data):
        raise Refused(f"{where} stored something else than it was sent, as {file.name}.", remedy="Run the command again.")
    return digest


def _new_session() -> Any:
    """b2sdk's, which tries a call for a quarter of an hour and waits 20 minutes for an answer by itself; this one gives up sooner."""
    from b2sdk.v3 import B2Http, B2HttpApiConfig, B2Session, InMemoryAccountInfo
    from requests import Session

    class Http(B2Http):  # type: ignore[misc]  # b2sdk's classes have no types
        def request(self, *args: Any, try_count: int = TRIES, _timeout: int | None = None, **options: Any) -> Any:
            return super().request(*args, try_count=min(try_count, TRIES), _timeout=min(_timeout or TIMEOUT, TIMEOUT), **options)

    class Calls(B2Session):  # type: ignore[misc]
        B2HTTP_CLASS = Http

    def http_session() -> Session:
        session = Session()
        session.auth = lambda request: request  # else a .netrc would replace the Authorization header
        return session

    return Calls(InMemoryAccountInfo(), api_config=B2HttpApiConfig(http_session_factory=http_session))


def _is_forbidden(error: B2Error) -> bool:
    """b2sdk would try again after every 401; only one that is about the token can end well."""
    return is_kind(error, "Unauthorized") and not is_kind(error, "InvalidAuthToken")


def _file(found: dict[str, Any]) -> File:
    sha1, stamp = found.get("contentSha1") or "", found["uploadTimestamp"] / 1000
    return File(found["fileId"], found["fileName"], found["action"], found["contentLength"], sha1, stamp)


def _read(response: Any, out: memoryview | None) -> tuple[bytes, int]:
    total = int(response.headers.get("Content-Range", "/0").rpartition("/")[2] or 0) or int(response.headers["Content-Length"])
    at, pieces = 0, []
    try:
        for piece in response.iter_content(_PIECE):
            if out is None:
                pieces.append(piece)
            else:
                out[at : at + len(piece)] = piece
            at += len(piece)
    finally:
        response.close()
    return b"".join(pieces), total

"""Reading objects and ranges of them, through answers that break off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.errors import StorageUnavailable
from torpor.storage.base import Info, Missing, Refused, check_range
from torpor.storage.s3_errors import AS_IT_WAS, Broken, asking, code_of, repeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.storage.s3_client import Client
    from torpor.storage.s3_place import Place

_PIECE = 1 << 20


class Reader:
    """`head` tells of an object's size where a range has no bytes. For any number of threads."""

    def __init__(self, place: Place, client: Client, head: Callable[[str], Info | None]) -> None:
        self._place = place
        self._client = client
        self._head = head

    def get(self, name: str, start: int, length: int | None) -> bytes:
        """As `Store.get`; the name is a good one."""
        check_range(name, 1 << 62, start, length)

        def fetch() -> bytes:
            body, _ = self._open(name, start, length)
            if body is None:
                return b""
            try:
                with asking(self._place, "read", name):
                    return bytes(body.read())
            finally:
                body.close()

        return repeat(fetch)

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        """As `Store.get_into`; `out` is flat."""
        check_range(name, 1 << 62, start, len(out))
        done, version = 0, ""

        def fetch() -> None:
            """Go on where the last answer broke off, as long as it is the same object."""
            nonlocal done, version
            body, now = self._open(name, start + done, len(out) - done)
            if body is None:
                return
            try:
                if now != version and done:
                    done, version = 0, ""
                    raise Broken(f"{name} was replaced while it was read.", safe=AS_IT_WAS, remedy="Try again.")
                version = now
                while done < len(out):
                    with asking(self._place, "read", name):
                        count = body.readinto(out[done : done + _PIECE])
                    if not count:
                        raise Broken(f"{self._place.url} sent too little of {name}.", safe=AS_IT_WAS, remedy="Try again.")
                    done += count
            finally:
                body.close()

        repeat(fetch)

    def _open(self, name: str, start: int, length: int | None) -> tuple[Any, str]:
        """The body of just this range, and the object's version; no body if the range is empty."""
        request = self._place.key(name)
        if length == 0:
            return self._empty(name, start, length)
        if start or length is not None:
            request["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        from botocore.exceptions import ClientError

        with asking(self._place, "read", name):
            try:
                answer = self._client.s3.get_object(**request)
            except ClientError as error:
                if code_of(error.response) not in ("InvalidRange", "416"):
                    raise
                return self._empty(name, start, length)
        body = answer["Body"]
        try:
            check_range(name, self._size(name, request, answer), start, length)
        except BaseException:
            body.close()
            raise
        return body, str(answer.get("ETag"))

    def _size(self, name: str, request: dict[str, Any], answer: dict[str, Any]) -> int:
        """Of the whole object, from an answer that has what was asked for."""
        if not answer.get("ETag"):
            raise StorageUnavailable(f"{self._place.url} answered something else than {name}.", safe=AS_IT_WAS, remedy="Try again later.")
        if "Range" not in request:
            return int(answer["ContentLength"])
        span, _, size = str(answer.get("ContentRange", "")).removeprefix("bytes ").partition("/")
        if not size.isdecimal() or not request["Range"].startswith(f"bytes={span.partition('-')[0]}-"):
            raise Refused(
                f"{self._place.url} does not give parts of objects.", safe=AS_IT_WAS, remedy="Use an endpoint that keeps to Range."
            )
        return int(size)

    def _empty(self, name: str, start: int, length: int | None) -> tuple[None, str]:
        """For a range with no bytes, which HTTP cannot ask for, and for one that the service says is not there."""
        info = self._head(name)
        if info is None:
            raise Missing(f"{self._place.url} has no {name}.")
        if check_range(name, info.size, start, length) > start:
            raise Broken(f"{name} was replaced while it was read.", safe=AS_IT_WAS, remedy="Try again.")
        return None, ""

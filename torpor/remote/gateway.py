"""An HTTP/1.1 server on this computer's loopback that does what grants say with stores that hosts can't reach, and nothing more.

A host gets to it through a reverse tunnel. There is no list, no delete, no overwriting, and no word to who has no signature. Each
request is good for one method, one object of `packs/`, until its time, and as long as its scope: one grant. Ending a scope ends what
is being written under it.
"""

from __future__ import annotations

import secrets
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from torpor.clock import SYSTEM
from torpor.errors import StorageUnavailable
from torpor.format.version import PACK_MAX
from torpor.remote.gateway_answer import refuse, respond
from torpor.remote.gateway_sign import Signer
from torpor.remote.gateway_wire import Connection, Ended, Head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from torpor.clock import Clock
    from torpor.storage.base import Store

CONNECTIONS = 128  # at once; a host's transfer has up to 64
STALL = 60.0  # seconds without a byte after which a connection ends
_PATIENCE = 60.0  # seconds for what is being written to come to its end
_EXPIRED = b'{"code": "ExpiredToken"}'  # as a host's transport reads it (storage/answers.py), which then asks for a fresh one


class Scope:
    """What one grant covers: a store, and who writes to it by that grant just now."""

    def __init__(self, store: Store, expires: float) -> None:
        self.store = store
        self.expires = expires
        self._open = True
        self._writers: set[Connection] = set()
        self._changed = threading.Condition()

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        with self._changed:
            self.check()
            self._writers.add(connection)
        try:
            yield
        finally:
            with self._changed:
                self._writers.discard(connection)
                self._changed.notify_all()

    @property
    def busy(self) -> bool:
        return bool(self._writers)

    def check(self) -> None:
        if not self._open:
            raise Ended("the grant has ended")

    def end(self) -> None:
        """On return nothing is written by it any more. Raises `StorageUnavailable` if a disk does not let go of a write."""
        with self._changed:
            self._open = False
            for connection in self._writers:
                connection.end()
            if not self._changed.wait_for(lambda: not self._writers, _PATIENCE):
                raise StorageUnavailable(f"Something is still being written to {self.store.url}.", remedy="Check the disk.")


class Gateway:
    """Serves until it is closed, on `port` of 127.0.0.1. Its secret is its own, so another one's URLs are strangers'."""

    def __init__(self, clock: Clock = SYSTEM, connections: int = CONNECTIONS, stall: float = STALL) -> None:
        self._signer = Signer(secrets.token_bytes(32))
        self._clock = clock
        self._most = connections
        self._stall = stall
        self._lock = threading.Lock()
        self._scopes: dict[str, Scope] = {}
        self._threads: dict[Connection, threading.Thread] = {}
        self._closed = False
        self._server = socket.create_server(("127.0.0.1", 0), backlog=connections)
        self.port: int = self._server.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="gateway", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def allow(self, store: Store, method: str, names: Sequence[str], expires: float) -> list[str]:
        """Targets (path and query) for these objects, all of one new scope. `expires`: seconds since 1970; 0: until the scope ends."""
        scope, now = secrets.token_hex(8), self._clock.now()
        with self._lock:
            self._scopes = {known: one for known, one in self._scopes.items() if one.busy or not 0 < one.expires <= now}
            self._scopes[scope] = Scope(store, expires)
        until = max(1, int(expires)) if expires else 0
        return [self._signer.target(method, name, scope, until) for name in names]

    def end(self, scope: str) -> None:
        """Take back what a scope allows. Nothing is written by it once this has returned. Raises `StorageUnavailable`."""
        with self._lock:
            found = self._scopes.pop(scope, None)
        if found is not None:
            found.end()

    def close(self) -> None:
        """End all connections, and what is being written by them."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = dict(self._threads)
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
            pass  # wakes `accept`
        self._acceptor.join(_PATIENCE)
        self._server.close()
        for connection in threads:
            connection.end()
        for thread in threads.values():
            thread.join(_PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except ConnectionError:
                continue  # it was gone again
            except OSError:
                if self._closed:
                    return
                threading.Event().wait(0.1)  # no descriptor left, for instance
                continue
            with self._lock:
                closed = self._closed
                if closed or len(self._threads) >= self._most or not self._begin(sock):
                    sock.close()
            if closed:
                return

    def _begin(self, sock: socket.socket) -> bool:
        """Serve a connection on a thread of its own; whether there could be one."""
        try:
            connection = Connection(sock, self._stall)
            thread = threading.Thread(target=self._serve, args=(connection,), name="gateway", daemon=True)
            self._threads[connection] = thread
            thread.start()
        except OSError:  # it is gone again
            return False
        except RuntimeError:  # no more threads
            del self._threads[connection]
            return False
        return True

    def _serve(self, connection: Connection) -> None:
        try:
            while not connection.last and (head := connection.next()) is not None:
                self._handle(connection, head)
            if connection.last:
                connection.linger()
        except Ended:
            pass
        finally:
            with self._lock:
                del self._threads[connection]
            connection.close()

    def _handle(self, connection: Connection, head: Head) -> None:
        if head.method not in ("GET", "HEAD", "PUT"):
            refuse(connection, 405)
            return
        wanted = self._signer.read(head.method, head.target)
        if wanted is None and self._signer.is_one(head.target):
            # Perhaps one that stood here in an earlier process signed it: as over, a job asks for a fresh one. It tells nothing of what is.
            self._expired(connection, head)
            return
        if wanted is None:
            refuse(connection, 403)
            return
        with self._lock:
            scope = self._scopes.get(wanted.scope)
        if wanted.expires and wanted.expires <= self._clock.now():
            self._expired(connection, head)
        elif scope is None:
            refuse(connection, 403, most=PACK_MAX)
        elif head.method == "PUT":
            with scope.writing(connection):
                respond(connection, head, scope.store, wanted.name, scope.check)
        else:
            respond(connection, head, scope.store, wanted.name, scope.check)

    @staticmethod
    def _expired(connection: Connection, head: Head) -> None:
        refuse(connection, 403, most=PACK_MAX, body=_EXPIRED if head.method != "HEAD" else b"")

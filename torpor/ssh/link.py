"""One SSH connection: the address is tried, its host key compared with the pinned one, a login made. By fabric, over paramiko."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torpor.errors import MachineError, MissingDependency
from torpor.ssh import keys
from torpor.ssh.base import HostKeyMismatch, HostKeyUnknown, LoginRefused, Unreachable

ROOM = 8  # channels in use at once; OpenSSH's MaxSessions is 10, and a command that is to be ended needs one more
_CONNECT = 10.0  # seconds for an answer of TCP
_ANSWER = 20.0  # seconds for each step of the conversation
_KEEPALIVE = 15.0  # seconds between two questions whether the other side is there
_SILENCE = 45.0  # seconds that it may leave one, or a packet, unanswered
_WINDOW = 1 << 23  # bytes on their way, a channel
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")  # the quickest (facts measured over loopback)
_LOG = "torpor.ssh"
_BROKE = ("EOF", "timeout")  # in what paramiko says of a login that the network ended


class Refused(Exception):
    """The connection opens no channel any more. Nothing was sent on one."""


class Link:
    """A connection that is logged in. `busy`: its channels in use; `room`: how many it may have. Both change under the shell's lock."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.transport: Any = connection.transport
        self.busy = 0
        self.room = ROOM
        self._over = threading.Event()
        threading.Thread(target=_beat, args=(self.transport, self._over), name="torpor-keepalive", daemon=True).start()

    @property
    def alive(self) -> bool:
        return bool(self.transport.is_active())

    def channel(self, seconds: float = _ANSWER) -> Any:
        """A channel of paramiko's. Raises `Refused`."""
        import paramiko

        try:
            return self.transport.open_session(timeout=seconds)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise Refused(str(error)) from error

    def close(self) -> None:
        self._over.set()
        self._connection.close()
        self.transport.close()


def _beat(transport: Any, over: threading.Event) -> None:
    """Ask again and again, and end the connection when no answer comes. TCP alone does not tell: a proxy in between answers for itself,
    and a network that went silent is believed for a quarter of an hour."""
    while not over.wait(_KEEPALIVE) and transport.is_active():
        timer = threading.Timer(_SILENCE, transport.close)
        timer.daemon = True
        timer.start()
        with suppress(Exception):  # it broke: whoever uses it is told
            transport.global_request("keepalive@openssh.com", wait=True)
        timer.cancel()


class _Pins:
    """What paramiko asks about each host, since it is given no list of known ones: the exact key is compared, or nothing goes on."""

    def __init__(self, host: str, port: int, pinned: Sequence[str]) -> None:
        self._host = host
        self._port = port
        self._pinned = [" ".join(line.split()[:2]) for line in pinned]
        self.kinds = {line.split()[0] for line in self._pinned if line}
        if "ssh-rsa" in self.kinds:  # the key's name; these are of its signatures
            self.kinds |= {"rsa-sha2-512", "rsa-sha2-256"}

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        seen = _public(key)
        if not self._pinned:
            raise unknown(self._host, self._port, seen)
        if seen not in self._pinned:
            raise mismatch(f"{self._host}:{self._port}", seen, self._pinned[0])


def dial(host: str, port: int, user: str, pinned: Sequence[str], identity: str, own: str = "") -> Link:
    """Connect and log in, with the key `identity`; without one, with `own` and what the user's agent and ~/.ssh have. Nothing is sent
    to a host that shows another key than one of `pinned`.

    Raises `Unreachable`, `HostKeyMismatch`, `HostKeyUnknown`, `LoginRefused`.
    """
    fabric, paramiko = _packages()
    key = load(identity or own) if identity or own else None
    stream = _connect(host, port)
    config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())  # no files of the user's: they could forward an agent
    pins = _Pins(host, port, pinned)
    how = {
        "sock": stream, "pkey": key, "allow_agent": not identity, "look_for_keys": not identity, "banner_timeout": _ANSWER,
        "auth_timeout": _ANSWER, "channel_timeout": _ANSWER, "timeout": _ANSWER,
        "transport_factory": lambda stream, **fields: _transport(stream, pins.kinds, **fields),
    }  # fmt: skip
    connection = fabric.Connection(
        host, user=user, port=port, config=config, gateway=False, forward_agent=False, connect_kwargs=how, inline_ssh_env=True
    )
    client = connection.client
    client.set_missing_host_key_policy(pins)
    failed = True
    try:
        connection.open()
        failed = False
    except paramiko.AuthenticationException as error:
        if any(sign in str(error) for sign in _BROKE):  # paramiko has one error for both
            raise _unreachable(host, port, f"the login broke off ({error})") from error
        raise _refused(f"{user}@{host}:{port}", identity, str(error)) from error
    except paramiko.SSHException as error:
        if "authentication methods" in str(error):
            raise _refused(f"{user}@{host}:{port}", identity, "there is no key to log in with") from error
        raise _unreachable(host, port, str(error)) from error
    except (OSError, EOFError) as error:
        raise _unreachable(host, port, str(error) or "it hung up") from error
    finally:
        if failed:
            with suppress(Exception):
                client.close()
            stream.close()
    return Link(connection)


def shown(host: str, port: int) -> str:
    """The host key that whoever answers at an address shows, as `ssh-ed25519 AAAA…`. Nothing of ours is sent. Raises `Unreachable`."""
    _, paramiko = _packages()
    stream = _connect(host, port)
    transport = _transport(stream)
    try:
        transport.start_client(timeout=_ANSWER)
        return _public(transport.get_remote_server_key())
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _unreachable(host, port, str(error) or "it hung up") from error
    finally:
        transport.close()
        stream.close()


def load(identity: str) -> Any:
    """A private key of a file. Raises `MachineError`, which shows the file's name and nothing of what is in it."""
    _, paramiko = _packages()
    path = Path(identity).expanduser()
    try:
        return paramiko.PKey.from_path(path)
    except OSError as error:
        why = error.strerror or "it can't be read"
    except paramiko.PasswordRequiredException:
        why = "it has a passphrase"
    except Exception as error:  # noqa: BLE001 - whatever parsers raise, which may quote the key
        why = "it has a passphrase" if isinstance(error, TypeError) else "it is no private key"
    raise MachineError(
        f"The SSH key {path} can't be used: {why}.",
        safe="Nothing was sent.",
        remedy="Name a key without a passphrase in TORPOR_SSH_KEY, or leave that unset to use an agent.",
    ) from None


def unknown(host: str, port: int, key: str) -> HostKeyUnknown:
    mark = keys.fingerprint(key)
    name = f"[{host}]" if ":" in host else host
    return HostKeyUnknown(
        f"The host key of {name}:{port} is not known. It shows {key.partition(' ')[0]} {mark}.",
        safe="Nothing was sent to it.",
        remedy="Compare that with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on the machine; if it is the same: "
        f"torpor trust ssh://{name}:{port} --fingerprint {mark}",
        key=key,
    )


def mismatch(whom: str, seen: str, expected: str) -> HostKeyMismatch:
    return HostKeyMismatch(
        f"The host key of {whom} is {keys.fingerprint(seen)}, and not {_mark(expected)}, which was pinned.",
        safe="Nothing was sent to it.",
        remedy="Addresses of rented machines are given to others: ask the provider which address the machine has now. If it was "
        "installed anew, compare the key on its console, then say `torpor trust` again.",
    )


def _mark(key: str) -> str:
    try:
        return keys.fingerprint(key)
    except ValueError:
        return f"{key[:40]!a}, which is no key"


def _public(key: Any) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _refused(whom: str, identity: str, why: str) -> LoginRefused:
    used = f"the key {identity}" if identity else "the keys of the agent and of ~/.ssh"
    return LoginRefused(
        f"{whom} refuses {used}: {why.rstrip('.')}.",
        safe="Nothing was run.",
        remedy="Add the public key to ~/.ssh/authorized_keys there, or name another private key: TORPOR_SSH_KEY=/path/to/key.",
    )


def _unreachable(host: str, port: int, why: str) -> Unreachable:
    return Unreachable(f"{host}:{port} does not answer as an SSH server: {why.rstrip('.')}.", safe="Nothing was sent to it.",
                       remedy="Look whether the machine runs, and whether this network lets SSH out.")  # fmt: skip


def _connect(host: str, port: int) -> socket.socket:
    try:
        stream = socket.create_connection((host, port), timeout=_CONNECT)
    except OSError as error:
        raise _unreachable(host, port, "no answer in time" if isinstance(error, TimeoutError) else str(error)) from error
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # of a peer that vanished without a word, keepalives alone tell nothing
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SILENCE * 1000))
    return stream


def _transport(stream: Any, kinds: Collection[str] = (), **fields: Any) -> Any:
    """`kinds`: of host keys, to be asked for first."""
    _, paramiko = _packages()
    transport = paramiko.Transport(stream, default_window_size=_WINDOW, **fields)
    transport.set_log_channel(_LOG)
    options = transport.get_security_options()
    options.ciphers = sorted(options.ciphers, key=lambda name: _CIPHERS.index(name) if name in _CIPHERS else len(_CIPHERS))
    options.key_types = sorted(options.key_types, key=lambda name: name not in kinds)
    return transport


_ready = threading.Lock()
_found: list[Any] = []


def _packages() -> tuple[Any, Any]:
    """fabric and paramiko; the first call makes them quiet."""
    with _ready:
        if not _found:
            try:
                import fabric
                import paramiko
            except ModuleNotFoundError as error:
                raise MissingDependency(f"SSH needs the package {error.name}.", remedy='Run: pip install "torpor[ssh]"') from error
            log = logging.getLogger(_LOG)
            log.addHandler(logging.NullHandler())
            log.propagate = False
            log.setLevel(logging.CRITICAL + 1)
            _found.extend((fabric, paramiko))
    return _found[0], _found[1]

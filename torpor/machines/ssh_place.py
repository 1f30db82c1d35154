"""Addresses of SSH hosts: `ssh://user@host:port/absolute/path`, and folders that are nobody's workspace."""

from __future__ import annotations

import hashlib
import posixpath
import re
from typing import NamedTuple

from torpor.errors import UsageError

FORM = "ssh://user@host:port/absolute/path"
WORKSPACE = "/workspace"
USER = "root"

_ADDRESS = re.compile(
    r"//(?:(?P<user>[A-Za-z_][A-Za-z0-9._-]{0,63})@)?"
    r"(?:(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)|\[(?P<six>[0-9A-Fa-f:.]{2,45})\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>/.*)?\Z",
    re.DOTALL,
)
# What a system is made of, with all below it; and folders that hold what is not a workspace's, though there may be one below.
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin", "/sys", "/usr")
_SHARED = ("/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib", "/var/log", "/var/tmp")  # noqa: S108 - to be refused


class Place(NamedTuple):
    """A folder on a host, as one user sees it."""

    user: str
    host: str
    port: int
    path: str = WORKSPACE

    @property
    def server(self) -> str:
        """`user@host:port`; the port is left out if it is 22."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}{'' if self.port == 22 else f':{self.port}'}"

    @property
    def address(self) -> str:
        return f"ssh://{self.server}{'' if self.path == WORKSPACE else self.path}"

    @property
    def mark(self) -> str:
        """Names the folder among those of one host and user."""
        return hashlib.sha256(self.path.encode(errors="surrogateescape")).hexdigest()[:16]


def parse(text: str) -> Place:
    """What follows `ssh:`. Raises `UsageError`, also for a folder that is no workspace: destroying empties it."""
    found = _ADDRESS.match(text)
    if found is None or int(found["port"] or 22) > 65535:
        raise UsageError(f"{'ssh:' + text[:100]!a} is no SSH host.", remedy=f"Write {FORM}; the path is {WORKSPACE} if it is left out.")
    path = found["path"] or WORKSPACE
    path = path.rstrip("/") or "/"
    if posixpath.normpath(path) != path or path.startswith("//") or any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise UsageError(f"{path!a} is no folder for a workspace.", remedy="Name an absolute path without . and .. in it.")
    check(path)
    return Place(found["user"] or USER, (found["host"] or found["six"]).lower(), int(found["port"] or 22), path)


def check(path: str, home: str = "") -> None:
    """Raise `UsageError` for folders that hold a system, somebody's home, or torpor's own records. `home`: of the user there."""
    why = ""
    if path in _SHARED or path in _SYSTEM or path.startswith(tuple(f"{folder}/" for folder in _SYSTEM)):
        why = "it is a part of the system"
    elif posixpath.dirname(path) == "/home":
        why = "it is somebody's home folder"
    elif home and (home == path or home.startswith(f"{path}/")):
        why = "the user's home folder lies in it"
    elif home and (path == f"{home}/.torpor" or path.startswith(f"{home}/.torpor/")):
        why = "torpor's own records are there"
    if why:
        raise UsageError(
            f"{path} can't be a workspace: {why}, and destroying a machine empties its workspace.",
            safe="Nothing was changed.",
            remedy=f"Name a folder of its own, such as {WORKSPACE}.",
        )

"""Addresses of Compute Engine's machines: `gce:PROJECT/ZONE/NAME[/absolute/path]`, and the rental of one."""

from __future__ import annotations

import hashlib
import posixpath
import re
from typing import NamedTuple

from torpor.errors import UsageError

FORM = "gce:PROJECT/ZONE/NAME"
WORKSPACE = "/workspace"

_PROJECT = re.compile(r"(?:[a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]\Z")
_ZONE = re.compile(r"[a-z]+(?:-[a-z]+)+[0-9]{1,2}-[a-z]\Z")
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class Place(NamedTuple):
    """One name in one zone of one project. Machines that have it one after the other have different rentals."""

    project: str
    zone: str
    name: str
    path: str = WORKSPACE

    @property
    def address(self) -> str:
        return f"gce:{self.project}/{self.zone}/{self.name}{'' if self.path == WORKSPACE else self.path}"

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]


def parse(text: str) -> Place:
    """`PROJECT/ZONE/NAME[/absolute/path]`, as Google allows names. Raises `UsageError`."""
    project, zone, name, path = (text.split("/", 3) + [""] * 4)[:4]
    for value, pattern, what in ((project, _PROJECT, "project"), (zone, _ZONE, "zone"), (name, _NAME, "instance")):
        if not pattern.match(value):
            raise UsageError(
                f"gce:{text!r}: {value!r} is no name of a {what}.",
                remedy=f"Write {FORM}, such as gce:my-project/us-central1-a/gpu-1; a path of the workspace may follow.",
            )
    whole = f"/{path}" if path else WORKSPACE
    if posixpath.normpath(whole) != whole or whole == "/" or whole.startswith("//") or any(ord(letter) < 32 for letter in whole):
        raise UsageError(f"{whole!r} is no folder for a workspace.", remedy="Name an absolute path without . and .. in it.")
    return Place(project, zone, name, whole)


def rental_of(number: int) -> str:
    """The rental of the instance with this numeric id: Google gives each instance one of its own, for ever."""
    return hashlib.sha256(b"gce:%d" % number).hexdigest()[:32]

"""Settings from the environment, read once, at a door. Secrets have a type that never prints."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from torpor.access import Access
from torpor.errors import UsageError
from torpor.providers import shown, storage_url


class Secret:
    """A string that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)


class Settings(msgspec.Struct, frozen=True):
    """`home`: keys, pins, state. `storage`: URL of the repository. `gpu`: whether jobs may use one that is there, and
    `gpu_install` whether hosts that have one get CuPy for it. `copies`: URLs of
    stores that may hold copies. `cache`: a folder for packs that were read, with its bound in bytes; empty for none.

    `access`: how its store is reached; only the control side has it. `pool_python`: what starts, on machines that are workers of the pool
    `gpu`, a Python that has torpor, its flows and Prefect; empty: one that torpor brings there.
    """

    home: Path
    storage: str
    recovery_key: Secret = msgspec.field(default_factory=lambda: Secret(""))
    recovery_confirmed: bool = False
    passphrase: Secret = msgspec.field(default_factory=lambda: Secret(""))
    gpu: Literal["auto", "off"] = "auto"
    access: Access = msgspec.field(default_factory=Access)
    copies: tuple[str, ...] = ()
    cache: str = ""
    cache_bytes: int = 0
    gpu_install: bool = False
    pool_python: str = ""


CACHE_SIZE = "50G"
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TRUE = ("1", "true", "yes", "on")


def load(environ: Mapping[str, str] | None = None, storage: str | None = None) -> Settings:
    """Read TORPOR_HOME, TORPOR_STORAGE (or STORAGE_PROVIDER and its own names), TORPOR_RECOVERY_KEY,
    TORPOR_RECOVERY_CONFIRMED, TORPOR_PASSPHRASE, TORPOR_GPU, TORPOR_COPIES, TORPOR_CACHE, TORPOR_CACHE_SIZE,
    TORPOR_POOL_PYTHON.

    Without a storage, the store is a folder below the home: enough to try torpor, not to survive the loss of the disk.
    """
    env = os.environ if environ is None else environ
    home = Path(folder(env.get("TORPOR_HOME", ""), "TORPOR_HOME") or Path(env.get("HOME") or "~").expanduser() / ".torpor").absolute()
    if storage:
        url = store_place(storage, "The storage")
    elif env.get("TORPOR_STORAGE"):
        url = store_place(env["TORPOR_STORAGE"], "TORPOR_STORAGE")
    else:
        url = storage_url(env.get("STORAGE_PROVIDER") or "local", env)
    gpu = env.get("TORPOR_GPU") or "auto"
    if gpu not in ("auto", "install", "off"):
        raise UsageError(f"TORPOR_GPU={gpu} means nothing.", remedy="Say auto, install or off.")
    return Settings(
        home=home,
        storage=url or (home / "storage").as_uri(),
        recovery_key=Secret(env.get("TORPOR_RECOVERY_KEY", "")),
        recovery_confirmed=env.get("TORPOR_RECOVERY_CONFIRMED", "").lower() in _TRUE,
        passphrase=Secret(env.get("TORPOR_PASSPHRASE", "")),
        gpu="off" if gpu == "off" else "auto",
        gpu_install=gpu == "install",
        access=Access(env),
        copies=tuple(dict.fromkeys(store_place(url, "TORPOR_COPIES") for url in env.get("TORPOR_COPIES", "").split(",") if url.strip())),
        cache=os.path.abspath(cache) if (cache := folder(env.get("TORPOR_CACHE", ""), "TORPOR_CACHE")) else "",
        pool_python=env.get("TORPOR_POOL_PYTHON") or "",
        cache_bytes=size(env.get("TORPOR_CACHE_SIZE") or CACHE_SIZE, "TORPOR_CACHE_SIZE"),
    )


def store_place(text: str, what: str) -> str:
    """A store's URL or folder as somebody wrote it, without blanks around it. Raises `UsageError` for one that is blank, holds
    credentials, or is of a store that ends with this process: what is proven there is gone when the proof is used."""
    url = text.strip()
    if not url:
        raise UsageError(f"{what} is blank.", safe="Nothing was changed.", remedy="Write a URL, or the path of a folder.")
    if re.fullmatch(r"memory:/*", url.lower()):
        raise UsageError(
            f"{what} is memory:, a store that ends with the process that opened it.", safe="Nothing was changed.",
            remedy="Write a URL that lasts, such as s3://bucket/prefix, or the path of a folder.",
        )  # fmt: skip
    if shown(url) != url:
        raise UsageError(
            f"{what} holds what may be a secret: {shown(url)}.", safe="It was not used, nor repeated.",
            remedy="Write the URL without it: credentials belong into the environment, and options are those of docs/providers.md.",
        )  # fmt: skip
    return url


def folder(text: str, what: str) -> str:
    """A folder as somebody wrote it: without blanks around it, `~` is the home folder; empty for none. Raises `UsageError` for a blank."""
    if text and not text.strip():
        raise UsageError(f"{what} is blank.", safe="Nothing was changed.", remedy="Write the path of a folder, or leave it out.")
    return os.path.expanduser(text.strip())


def size(text: str, flag: str) -> int:
    """`512M`, `2GiB`, `1048576`: bytes; every unit is a power of 1024. Raises `UsageError` that names the flag."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?) ?([kmgt]?)i?b?", text.strip().lower())
    if found is None:
        raise UsageError(f"{flag} {text!r} is no size.", remedy="Write it as 512M, 2G or a number of bytes.")
    return int(float(found[1]) * 1024 ** _POWERS[found[2]])

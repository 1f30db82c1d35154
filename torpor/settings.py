"""Settings from the environment, read once, at a door. Secrets have a type that never prints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from torpor.access import Access
from torpor.errors import UsageError
from torpor.providers import storage_url


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
    """`home`: keys, pins, state. `storage`: URL of the repository. `gpu`: whether jobs may use one that is there.

    `access`: how its store is reached; only the control side has it.
    """

    home: Path
    storage: str
    recovery_key: Secret = msgspec.field(default_factory=lambda: Secret(""))
    recovery_confirmed: bool = False
    passphrase: Secret = msgspec.field(default_factory=lambda: Secret(""))
    gpu: Literal["auto", "off"] = "auto"
    access: Access = msgspec.field(default_factory=Access)


_TRUE = ("1", "true", "yes", "on")


def load(environ: Mapping[str, str] | None = None, storage: str | None = None) -> Settings:
    """Read TORPOR_HOME, TORPOR_STORAGE (or STORAGE_PROVIDER with the names that go with it), TORPOR_RECOVERY_KEY,
    TORPOR_RECOVERY_CONFIRMED, TORPOR_PASSPHRASE, TORPOR_GPU.

    Without a storage, the store is a folder below the home: enough to try torpor, not to survive the loss of the disk.
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("TORPOR_HOME") or Path(env.get("HOME") or "~").expanduser() / ".torpor").absolute()
    url = storage or env.get("TORPOR_STORAGE", "")
    if not url:
        url = storage_url(env.get("STORAGE_PROVIDER") or "local", env)
    gpu = env.get("TORPOR_GPU") or "auto"
    if gpu not in ("auto", "off"):
        raise UsageError(f"TORPOR_GPU={gpu} means nothing.", remedy="Say auto or off.")
    return Settings(
        home=home,
        storage=url or (home / "storage").as_uri(),
        recovery_key=Secret(env.get("TORPOR_RECOVERY_KEY", "")),
        recovery_confirmed=env.get("TORPOR_RECOVERY_CONFIRMED", "").lower() in _TRUE,
        passphrase=Secret(env.get("TORPOR_PASSPHRASE", "")),
        gpu="off" if gpu == "off" else "auto",
        access=Access(env),
    )

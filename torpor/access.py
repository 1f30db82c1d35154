"""What stores and providers of machines may read of the environment, taken from it once, at a door."""

from __future__ import annotations

from collections.abc import Mapping

_ACCESS = ("AWS_", "B2_", "GCE_", "GCS_", "GOOGLE_", "R2_", "S3_", "TORPOR_KNOWN_HOSTS", "TORPOR_SSH_KEY", "VAST_", "WASABI_")


class Access:
    """What stores and providers may read of the environment: accounts, regions, endpoints, files of keys. Shows names, never values."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = {name: value for name, value in (values or {}).items() if name.startswith(_ACCESS) and value}

    def get(self, *names: str) -> str:
        """The value of the first of these names that is set; empty if none is."""
        return next((self._values[name] for name in names if name in self._values), "")

    def __repr__(self) -> str:
        return f"Access({', '.join(sorted(self._values))})"

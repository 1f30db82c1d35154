"""What people write for an option: none at all where some is needed, and two where one can be, are mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from torpor.cli import given, wish
from torpor.errors import UsageError

NOTHING: dict[str, Any] = dict.fromkeys(wish.KEYS)


def test_time_is_rounded_up_and_never_none() -> None:
    """`timeout 0` of a shell is no limit at all."""
    assert [given.whole_seconds(text, "--before-timeout") for text in ("0.5", "1", "1.2m")] == [1, 1, 72]
    with pytest.raises(UsageError, match="--before-timeout '0' is too short"):
        given.whole_seconds("0", "--before-timeout")


@pytest.mark.parametrize(
    ("key", "text"), [("boot_deadline", "0"), ("boot_deadline", "59"), ("lease", "1"), ("lease", "9m"), ("after_timeout", "0")]
)
def test_no_machine_is_rented_without_a_chance(key: str, text: str) -> None:
    with pytest.raises(UsageError, match="too short"):
        wish.parameters({**NOTHING, "gpu": "RTX 4090", key: text})


def test_a_lease_is_longer_than_the_boot() -> None:
    with pytest.raises(UsageError, match="before --boot-deadline"):
        wish.parameters({**NOTHING, "boot_deadline": "20m", "lease": "15m"})
    found = wish.parameters({**NOTHING, "boot_deadline": "10m", "lease": "15m", "after_timeout": "0.2"})
    assert (found["boot_seconds"], found["lease_seconds"], found["after_seconds"]) == (600, 900, 1)


def test_a_region_that_is_none() -> None:
    with pytest.raises(UsageError, match="no region"):
        wish.parameters({**NOTHING, "region": "mars"})


def test_a_folder_has_one_place() -> None:
    with pytest.raises(UsageError, match="twice"):
        given.maps(["a=x", "a=y"])

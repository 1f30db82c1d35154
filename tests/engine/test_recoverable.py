"""Nothing is destroyed while the recovery key would not bring the keys back from the store, nor into a repository nobody has a key of."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.engine.lab import Lab
from tests.engine.test_destroy import yard
from torpor.control import destroy, recoverable
from torpor.errors import DestroyRefused
from torpor.settings import load


@pytest.mark.parametrize("harm", ["another repository's", "{}", "bit"])
def test_not_while_the_recovery_key_opens_nothing(tmp_path: Path, harm: str) -> None:
    """A snapshot that can be read with this computer alone is lost with it. Typing the key in mends that."""
    there = yard(tmp_path)
    receipt = there.prove()
    (name,) = there.lab.objects("keys/")
    right = there.lab.store.get(name)
    other = Lab(tmp_path / "other")
    wrong = {
        "{}": b"{}", "bit": right.replace(b'"wrapped":"', b'"wrapped":"AAAA', 1),
        "another repository's": other.store.get(next(iter(other.objects("keys/")))),
    }[harm]  # fmt: skip
    assert wrong != right
    there.lab.store.put(name, wrong)
    there.refused(receipt, "would not bring the keys back")
    with pytest.raises(DestroyRefused, match="would not bring the keys back"):
        destroy.open_for_destroying(there.lab.repository.settings)
    assert recoverable.put_again(there.lab.repository)
    assert there.destroy(receipt) == "destroyed"


def test_keys_that_are_gone_from_the_store_are_put_there_again(tmp_path: Path) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    there.lab.store.delete(list(there.lab.objects("keys/")))
    assert "is not in the store" in recoverable.trouble(there.lab.repository)
    assert there.destroy(receipt) == "destroyed"
    other = there.lab.open("another home", TORPOR_RECOVERY_KEY=there.lab.recovery_key)
    there.lab.restore(tmp_path / "back", repository=other)


def test_keys_that_are_gone_and_a_recovery_key_that_is_not_known_here(tmp_path: Path) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    there.lab.store.delete(list(there.lab.objects("keys/")))
    repo = there.lab.repository
    repo.keys = msgspec.structs.replace(repo.private(), recovery=b"")
    there.refused(receipt, "is not in the store")


def test_no_repository_is_made_for_a_machine_that_will_go(tmp_path: Path) -> None:
    settings = load({"TORPOR_HOME": str(tmp_path / "home"), "TORPOR_STORAGE": str(tmp_path / "typo"), "TORPOR_RECOVERY_CONFIRMED": "1"})
    with pytest.raises(DestroyRefused, match="nobody has seen"):
        destroy.open_for_destroying(settings)
    assert list(tmp_path.iterdir()) == []

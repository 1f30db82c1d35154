"""A restore does not write over what it is made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.errors import UsageError
from torpor.storage.local import LocalStore


@pytest.mark.parametrize("what", ["store", "home"])
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_a_target_that_holds_the_store_or_the_home_is_refused(tmp_path: Path, what: str, mode: str) -> None:
    user = tmp_path / "users/me"
    store = LocalStore(str((user if what == "store" else tmp_path) / ".torpor/store"))
    lab = Lab((user if what == "home" else tmp_path) / "lab", store=store)
    write(user / "proj/t", "a")
    first = lab.take(user, machine="../../state")
    write(user / "proj/t2", "v2")
    (tmp_path / "link").symlink_to(user)
    for target in (user, tmp_path / "link", user.parent):
        for dry_run in (True, False):
            with pytest.raises(UsageError, match=r"me/(.torpor/store|lab/home), which the restore would write over"):
                lab.restore(target, first.snapshot.id, mode=mode, dry_run=dry_run)
    assert (user / "proj/t2").exists()
    assert lab.check_all() == [first.snapshot.id]


def test_a_target_in_the_store_is_refused(tmp_path: Path, root: Path) -> None:
    lab = Lab(tmp_path / "lab", store=LocalStore(str(tmp_path / "store")))
    write(root / "file", "x")
    lab.take(root)
    for target in (tmp_path / "store", tmp_path / "store/packs", tmp_path / "store/new", tmp_path / "lab/home/keys"):
        with pytest.raises(UsageError, match=r"holds a repository|holds torpor's home|lies in"):
            lab.restore(target, mode="replace")
    assert not (tmp_path / "store/new").exists()
    lab.check_all()

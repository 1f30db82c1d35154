"""Network settings, in a folder that stands for /proc/sys."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from torpor.workspace.tuning import WANTED, revert, tune

DEFAULTS = {
    "net.core.rmem_max": "212992",
    "net.core.wmem_max": "212992",
    "net.ipv4.tcp_rmem": "4096\t131072\t6291456",
    "net.ipv4.tcp_wmem": "4096\t16384\t4194304",
    "net.core.default_qdisc": "pfifo_fast",
    "net.ipv4.tcp_congestion_control": "cubic",
    "net.ipv4.tcp_window_scaling": "1",
    "net.ipv4.tcp_slow_start_after_idle": "1",
    "net.ipv4.tcp_no_metrics_save": "0",
    "net.ipv4.tcp_notsent_lowat": "4294967295",
}


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    """With what a fresh Debian has."""
    for key, value in DEFAULTS.items():
        write(tmp_path, key, value)
    return os.fsencode(tmp_path)


def write(root: Path, key: str, value: str) -> None:
    path = root.joinpath(*key.split("."))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value + "\n")


def read(root: bytes, key: str) -> str:
    return Path(os.fsdecode(root)).joinpath(*key.split(".")).read_text()


def state(root: bytes) -> dict[str, str]:
    return {key: " ".join(read(root, key).split()) for key in DEFAULTS}


def test_all_is_applied_where_it_can_be(root: bytes) -> None:
    tuned = tune(root)
    assert tuned.outcomes == {**dict.fromkeys(WANTED, "applied"), "net.ipv4.tcp_window_scaling": "already"}
    assert state(root) == WANTED
    assert read(root, "net.ipv4.tcp_rmem") == "4096 131072 134217728\n"
    assert set(tune(root).outcomes.values()) == {"already"}
    assert tune(root).before == {}


def test_all_can_be_put_back(root: bytes) -> None:
    before = state(root)
    tuned = tune(root)
    assert state(root) != before
    assert revert(tuned.before, root) == {}
    assert state(root) == before


def test_greater_bounds_are_left(root: bytes, tmp_path: Path) -> None:
    write(tmp_path, "net.core.rmem_max", "536870912")
    write(tmp_path, "net.ipv4.tcp_wmem", "8192 16384 536870912")
    outcomes = tune(root).outcomes
    assert outcomes["net.core.rmem_max"] == "already"
    assert outcomes["net.ipv4.tcp_wmem"] == "applied"
    assert read(root, "net.ipv4.tcp_wmem") == "8192 65536 536870912\n"


def test_what_is_missing_or_strange_is_unsupported(root: bytes, tmp_path: Path) -> None:
    (tmp_path / "net/core/rmem_max").unlink()
    write(tmp_path, "net.ipv4.tcp_rmem", "4096 131072")
    write(tmp_path, "net.core.wmem_max", "much")
    (tmp_path / "net/ipv4/tcp_notsent_lowat").write_bytes(b"\xff\n")
    outcomes = tune(root).outcomes
    assert [key for key, outcome in outcomes.items() if outcome == "unsupported"] == [
        "net.core.rmem_max", "net.core.wmem_max", "net.ipv4.tcp_rmem", "net.ipv4.tcp_notsent_lowat",
    ]  # fmt: skip
    assert outcomes["net.ipv4.tcp_congestion_control"] == "applied"


def test_nothing_at_all(tmp_path: Path) -> None:
    tuned = tune(os.fsencode(tmp_path))
    assert set(tuned.outcomes.values()) == {"unsupported"}
    assert tuned.before == {}


@pytest.mark.parametrize(("code", "outcome"), [
    (errno.EROFS, "denied"), (errno.EACCES, "denied"), (errno.EPERM, "denied"),
    (errno.ENOENT, "unsupported"), (errno.EINVAL, "unsupported"),
])  # fmt: skip
def test_what_the_kernel_says_to_a_write(root: bytes, monkeypatch: pytest.MonkeyPatch, code: int, outcome: str) -> None:
    """ENOENT is its answer to a congestion control that it has not loaded."""

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        tuned = tune(root)
    assert set(tuned.outcomes.values()) == {outcome, "already"}
    assert tuned.before == {}
    assert revert({"net.core.rmem_max": "1"}, root) == {}
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        assert revert({"net.core.rmem_max": "1"}, root) == {"net.core.rmem_max": "1"}


def test_reverting_touches_no_other_keys(root: bytes, tmp_path: Path) -> None:
    write(tmp_path, "kernel.core_pattern", "core")
    assert revert({"kernel.core_pattern": "|/bin/evil", "../x": "y"}, root) == {}
    assert read(root, "kernel.core_pattern") == "core\n"

"""Threads and buffers from cores and memory."""

from __future__ import annotations

import pytest

from torpor.errors import UsageError
from torpor.format.version import CHUNK_MAX
from torpor.plan import limits
from torpor.plan.limits import ARENA, MIB, REMOTE_MAX, STREAMS_MAX, UNIT_MAX

GIB = 1024 * MIB


def test_what_was_asked_for_is_what_is_used() -> None:
    assert limits.budget(700 * MIB, 64 * GIB, remote=True) == 700 * MIB
    assert limits.budget(700 * MIB, 64 * GIB, remote=False) == 700 * MIB


def test_a_remote_store_gets_an_eighth_of_the_machine_and_no_more_than_4_gib() -> None:
    assert limits.budget(0, 64 * GIB, remote=False) == 512 * MIB
    assert limits.budget(0, 16 * GIB, remote=True) == 2 * GIB
    assert limits.budget(0, 1024 * GIB, remote=True) == REMOTE_MAX
    assert limits.budget(0, GIB, remote=True) == limits.budget(0, 0, remote=True) == 512 * MIB


@pytest.mark.parametrize("cores", [1, 2, 8, 64])
@pytest.mark.parametrize("memory", [384 * MIB, 512 * MIB, GIB, 4 * GIB])
@pytest.mark.parametrize("remote", [False, True])
def test_a_plan_fits_into_its_memory(memory: int, cores: int, remote: bool) -> None:
    found = limits.plan(memory, cores, remote=remote)
    assert found.workers >= 1
    assert found.arenas > found.uploads >= 1
    assert found.buffers >= found.downloads >= 1
    assert found.arenas * ARENA + found.workers * 5 * CHUNK_MAX + 130 * MIB <= memory or found.workers == 1
    assert found.buffers * UNIT_MAX <= found.arenas * ARENA


def test_more_memory_is_more_requests_at_once_of_a_remote_store_alone() -> None:
    assert limits.plan(512 * MIB, 2).uploads == limits.plan(4 * GIB, 2).uploads == 4
    little, much = limits.plan(512 * MIB, 2, remote=True), limits.plan(4 * GIB, 2, remote=True)
    assert 4 < little.uploads < much.uploads == STREAMS_MAX
    assert 16 < little.downloads <= much.downloads == STREAMS_MAX


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="too little"):
        limits.plan(383 * MIB, 2)


def test_more_than_is_promised_is_told() -> None:
    assert limits.told(512 * MIB, limits.plan(512 * MIB, 2)) == ""
    assert "4.3 GB" in limits.told(4 * GIB, limits.plan(4 * GIB, 2, remote=True))

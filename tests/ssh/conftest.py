"""One machine for all tests of a module; what one test does to it is undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.sshd import Sshd
from torpor.ssh.connect import SshShell


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture
def shell(host: Sshd) -> Iterator[SshShell]:
    made = SshShell(host.target)
    yield made
    made.close()

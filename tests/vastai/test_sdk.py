"""The emulator is what it stands for: vast.ai's own package works with it, call by call, as with the service."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.vast.server import QUOTA, TOO_MANY_JSON, Vast
from torpor.clock import FakeClock
from torpor.ssh import keys

VERSION = "1.9.1"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest) -> Path:
    """The package in a folder of its own, kept between runs. Without what it depends on: it pins exact versions of others, and the
    part of it that is used here needs `requests` alone."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir(f"vastai-{VERSION}")
    made = folder / "packages"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers of one run
        if not made.exists():
            fresh = folder / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                str(fresh),
                f"vastai=={VERSION}",
                "pyparsing==3.2.5",
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            fresh.rename(made)
    return made


class Sdk:
    """One process with the package. `call` returns what the method does; `fails` the status of its error."""

    def __init__(self, package: Path, vast: Vast, folder: Path) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(package),
            "VAST_URL": vast.url,
            "VAST_API_KEY": vast.service.key,
        }
        child = str(Path(__file__).with_name("sdk_child.py"))
        self.process = subprocess.Popen(
            [sys.executable, "-s", child], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def call(self, method: str, **arguments: Any) -> Any:
        answer = self.ask(method, **arguments)
        assert "result" in answer, answer
        return answer["result"]

    def fails(self, method: str, **arguments: Any) -> int:
        answer = self.ask(method, **arguments)
        assert "error" in answer, (method, answer)
        status: int = answer["status"]
        return status

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def vast(clock: FakeClock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vast]:
    with Vast(tmp_path_factory.mktemp("vast"), clock=clock, boot=40.0) as vast:
        yield vast


@pytest.fixture(scope="module")
def sdk(package: Path, vast: Vast, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    found = Sdk(package, vast, tmp_path_factory.mktemp("home"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _empty(vast: Vast) -> Iterator[None]:
    yield
    for number in list(vast.service.instances):
        vast.service.destroy(number)


def create(sdk: Sdk, ask: int = 7_000_001, **changes: Any) -> int:
    made = {"id": ask, "image": "ubuntu:24.04", "disk": 20, "env": "-e A=B -p 8081:8081", "label": "mine", "ssh": True, "direct": True}
    number: int = sdk.call("create_instance", **(made | changes))["new_contract"]
    return number


def test_search(sdk: Sdk, vast: Vast) -> None:
    query = "gpu_name=RTX_4090 num_gpus=1 geolocation in [US,DE] inet_down>=500 reliability>0.98 direct_port_count>=1"
    for method in ("search_offers", "search_offers_new"):
        found = sdk.call(method, query=query, order="dph_total", storage=120, limit=5)
        assert [offer["id"] for offer in found] == [7_000_001, 7_000_002]
        assert found[0]["dph_total"] == pytest.approx(0.36 + 0.15 * 120 / 720)
    assert vast.requests[-2].body["num_gpus"] == {"eq": "1"}, "it sends numbers as text"
    bids = sdk.call("search_offers", query="gpu_name=RTX_4090", type="bid", order="dph_total")
    assert bids[0]["min_bid"] < 0.36
    assert {offer["verification"] for offer in bids} == {"verified"}
    assert sdk.fails("search_offers", query={"gpu_name": {"like": "x"}}) == 400


def test_a_life(sdk: Sdk, clock: FakeClock) -> None:
    number = create(sdk)
    assert sdk.call("show_instance", id=number)["actual_status"] is None
    clock.advance(60)
    shown = sdk.call("show_instance", id=number)
    assert (shown["actual_status"], shown["label"], shown["is_bid"]) == ("running", "mine", False)
    assert shown["extra_env"] == {"A": "B", "-p 8081:8081": "1"}
    assert sdk.call("ssh_url", id=number).startswith("ssh://root@")
    assert sdk.call("label_instance", id=number, label="other")
    assert [(one["id"], one["label"]) for one in sdk.call("show_instances")] == [(number, "other")]
    assert sdk.call("stop_instance", id=number)["success"] is True
    assert sdk.call("show_instance", id=number)["cur_state"] == "stopped"
    assert sdk.call("start_instance", id=number)["success"] is True
    clock.advance(60)
    assert sdk.call("show_instance", id=number)["actual_status"] == "running"
    assert sdk.call("reboot_instance", id=number)["success"] is True
    assert "booted" in sdk.call("logs", instance_id=number, tail="2")
    assert sdk.call("destroy_instance", id=number)["success"] is True
    assert sdk.call("show_instance", id=number) is None
    assert sdk.fails("destroy_instance", id=number) == 404


def test_interruptible(sdk: Sdk, vast: Vast, clock: FakeClock) -> None:
    number = create(sdk, bid_price=0.25)
    assert sdk.call("show_instance", id=number)["is_bid"] is True
    assert sdk.call("change_bid", id=number, price=0.3)["success"] is True
    assert vast.service.instances[number].price == 0.3
    clock.advance(60)
    vast.service.outbid(number)
    shown = sdk.call("show_instance", id=number)
    assert {shown["cur_state"], shown["intended_status"], shown["next_state"]} == {"stopped"}
    assert shown["ports"] is None


def test_keys(sdk: Sdk) -> None:
    number = create(sdk)
    line = keys.make().public
    assert sdk.call("attach_ssh", instance_id=number, ssh_key=line)["success"] is True
    assert sdk.call("create_ssh_key", ssh_key=line)["key"]["public_key"] == line
    assert [key["public_key"] for key in sdk.call("show_ssh_keys")] == [line]


def test_pages(sdk: Sdk, vast: Vast) -> None:
    for number in range(1, 31):
        vast.service.offers[number] = vast.service.offers[7_000_002] | {"id": number, "rentable": True}
        create(sdk, number)
    assert len(sdk.call("show_instances")) == 30
    assert len([seen for seen in vast.requests if "after_token=" in seen.path]) == 1


def test_refusals(sdk: Sdk, vast: Vast) -> None:
    assert sdk.fails("create_instance", id=999, image="ubuntu") == 404
    create(sdk)
    assert sdk.fails("create_instance", id=7_000_001, image="ubuntu", ssh=True) == 410
    assert sdk.fails("create_instance", id=7_000_002, image="ubuntu", disk=2) == 400
    vast.faults.add("show", TOO_MANY_JSON)
    assert sdk.fails("show_instance", id=1) == 429
    vast.faults.add("search", QUOTA)
    assert sdk.fails("search_offers") == 429

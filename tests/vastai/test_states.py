"""What an instance is said to be, by what the service says of it and by what was asked for; and what it costs meanwhile."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from tests.vastai.desk import BID, Desk
from torpor.errors import MachineError, UsageError
from torpor.machines.base import Access
from torpor.machines.vast import VastMachine
from torpor.machines.vast_errors import NeverBoots
from torpor.machines.vast_papers import Papers
from torpor.machines.vast_state import SCHEDULING, addresses, judge

DISK = round(32 * 0.15 / 720, 6)  # dollars an hour, of the emulator's offers


def fields(actual: str | None, intended: str, contract: str, **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "actual_status": actual,
        "intended_status": intended,
        "cur_state": contract,
        "next_state": contract,
        "ssh_host": "ssh1.vast.ai",
        "ssh_port": 12345,
        "dph_total": 0.5,
        "storage_cost": 0.15,
        "disk_space": 32,
    } | more


OCI = "Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed"
CASES = [
    (fields(None, "running", "running"), "starting", DISK),
    (fields("created", "running", "running"), "starting", DISK),
    (fields("loading", "running", "running"), "starting", DISK),
    (fields("rebooting", "running", "running"), "starting", DISK),
    (fields("running", "running", "running"), "running", 0.5),
    (fields("running", "running", "running", ssh_host=None, ssh_port=None), "starting", 0.5),
    (fields("created", "running", "running", status_msg=OCI), "unreachable", 0.5),
    (fields("exited", "running", "running"), "unreachable", 0.5),
    (fields("unknown", "running", "running"), "unreachable", None),
    (fields("offline", "running", "running"), "unreachable", None),
    (fields("offline", "stopped", "stopped"), "unreachable", None),
    (fields("frozen", "running", "running"), "interrupted", 0.5),
    (fields(None, "running", "stopped"), "starting", DISK),  # Scheduling
    (fields("exited", "running", "stopped"), "starting", DISK),
    (fields("stopped", "stopped", "stopped"), "interrupted", DISK),
    (fields("exited", "stopped", "stopped"), "interrupted", DISK),
    (fields("stopped", "stopped", "unloaded"), "interrupted", DISK),
    (fields("running", "stopped", "running"), "stopped", 0.5),
    (fields("something new", "running", "running"), "unreachable", 0.5),
    ({}, "starting", None),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_states(case: int) -> None:
    found, state, price = CASES[case]
    seen = judge(found, Papers(wish="running", asked=1000.0), 1010.0)
    assert (seen.state, seen.price) == (state, price)


def test_what_was_stopped_by_us_is_not_interrupted() -> None:
    found = fields("stopped", "stopped", "stopped")
    assert judge(found, Papers(wish="stopped", asked=1000.0), 1010.0).state == "stopped"
    assert judge(found, Papers(), 1010.0).state == "stopped", "nobody here asked for it to run"


def test_scheduling_for_too_long() -> None:
    found, papers = fields(None, "running", "stopped"), Papers(wish="running", asked=1000.0)
    assert judge(found, papers, 1000 + SCHEDULING - 1) == ("starting", "Scheduling: it waits for its GPU", DISK)
    assert judge(found, papers, 1000 + SCHEDULING).state == "interrupted"


@pytest.mark.parametrize(
    "junk", [[], {}, "x", -1, 1e999, 10**400, True, None, "\0\x1b[31m", {"22/tcp": "x"}, {"22/tcp": [{"HostPort": "99999"}, 7]}]
)
def test_junk_in_any_field(junk: Any) -> None:
    """The service's words are input like any other."""
    whole = fields("running", "running", "running", ports={"22/tcp": [{"HostPort": "1"}]}, public_ipaddr="192.0.2.1", label="x")
    for name in whole:
        seen = judge(whole | {name: junk}, Papers(wish="running"), 1000.0)
        assert seen.state in ("running", "starting", "interrupted", "unreachable", "stopped")
        assert seen.price is None or 0 <= seen.price < 1e18
        assert seen.detail.isprintable()
        for host, port in addresses(whole | {name: junk}):
            assert host
            assert 0 < port < 65536


def test_addresses() -> None:
    """Directly first, then through the proxy. The address has been seen with white space at its end."""
    ports = {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "33526"}, {"HostIp": "::", "HostPort": "33526"}]}
    found = fields("running", "running", "running", ports=ports, public_ipaddr=" 192.0.2.7\n")
    assert addresses(found) == [("192.0.2.7", 33526), ("ssh1.vast.ai", 12345)]
    assert addresses(found | {"image_runtype": "jupyter_direc ssh_direc ssh_proxy"})[1] == ("ssh1.vast.ai", 12346)
    assert addresses(found | {"ports": None}) == [("ssh1.vast.ai", 12345)]
    assert addresses(found | {"public_ipaddr": "-oProxyCommand=x"}) == [("ssh1.vast.ai", 12345)]


def test_the_identity_of_a_rental() -> None:
    from torpor.machines.vast_state import rental

    assert rental("12345") == hashlib.sha256(b"vast:12345").hexdigest()[:32]


def test_a_life(desk: Desk) -> None:
    machine = desk.rent()
    assert desk.look(machine).state == "starting"
    assert desk.look(machine).price == DISK, "what loads costs its disk alone"
    status = machine.wait_ready()
    assert status.state == "running"
    assert status.price == pytest.approx(0.36 + DISK)
    stopped = machine.stop()
    assert (stopped.state, stopped.price) == ("stopped", DISK)
    with pytest.raises(MachineError):
        machine.access()
    assert desk.machine(machine.address).create() == machine.status()
    assert machine.status().state == "running"


def test_outbid_and_back(desk: Desk) -> None:
    """Stopped by the service, at no notice; it resumes by itself when its bid is the highest again."""
    machine = desk.running(BID)
    desk.vast.service.outbid(desk.number(machine))
    status = desk.look(machine)
    assert status.state == "interrupted"
    assert status.price == DISK
    desk.vast.service.resume(desk.number(machine))
    assert desk.look(machine).state == "starting"
    desk.clock.advance(60)
    assert desk.look(machine).state == "running"
    machine.bid(0.9)
    assert desk.vast.service.instances[desk.number(machine)].price == 0.9


def test_a_host_that_is_offline_for_a_while(desk: Desk) -> None:
    machine = desk.running()
    desk.vast.service.offline(desk.number(machine))
    assert desk.look(machine).state == "unreachable"
    assert desk.look(machine).detail == "its host is offline"
    with pytest.raises(MachineError):
        machine.create()
    desk.vast.service.online(desk.number(machine))
    assert desk.look(machine).state == "running"


def test_a_container_that_ended(desk: Desk) -> None:
    machine = desk.running()
    desk.vast.service.exit(desk.number(machine))
    assert desk.look(machine).state == "unreachable"


def test_an_image_that_does_not_start(desk: Desk) -> None:
    desk.vast.service.next_trouble = "oci"
    machine, began = desk.rent(), desk.clock.now()
    with pytest.raises(NeverBoots, match=r"can't be made.*OCI runtime create failed"):
        machine.wait_ready()
    assert desk.clock.now() - began < 60, "it is not waited for"


def test_a_gpu_that_is_never_free(desk: Desk) -> None:
    desk.vast.service.next_trouble = "scheduling"
    machine, began = desk.rent(), desk.clock.now()
    with pytest.raises(NeverBoots, match="Scheduling"):
        machine.wait_ready()
    assert SCHEDULING <= desk.clock.now() - began < SCHEDULING + 20


def test_a_boot_that_never_ends(desk: Desk) -> None:
    desk.vast.service.next_trouble = "never"
    machine, began = desk.rent(), desk.clock.now()
    with pytest.raises(NeverBoots, match="300 s"):
        machine.wait_ready(300)
    assert 300 <= desk.clock.now() - began < 320


def test_a_script_that_is_not_done(desk: Desk) -> None:
    """The service says that it runs, and its SSH server shows the image's key: nobody logs in yet. A later change is not waited for."""
    machine = desk.rent()
    desk.clock.advance(60)
    desk.vast.slow_script = 2
    assert desk.look(machine) == msgspec.structs.replace(desk.look(machine), detail="its host key is being installed")
    assert desk.look(machine).state == "running"
    desk.vast.slow_script = 9
    assert desk.look(machine).state == "running"
    assert machine.access().ssh
    machine.stop()
    desk.clock.advance(60)
    began = desk.clock.now()
    assert machine.create().state == "running"
    assert desk.clock.now() - began > 40 + 5 * 5, "after another start it is looked at again"


def test_an_ssh_server_that_does_not_answer(desk: Desk) -> None:
    machine = desk.rent()
    desk.clock.advance(60)
    status = VastMachine(machine.id, desk.ground, pause=desk.clock.advance).status()  # and it does not: its port is nobody's
    assert (status.state, status.detail) == ("starting", "its SSH server does not answer yet")
    with pytest.raises(MachineError):
        VastMachine(machine.id, desk.ground, pause=desk.clock.advance).access()


def test_gone_by_itself(desk: Desk) -> None:
    machine = desk.running()
    proof = desk.proof(machine)
    desk.vast.service.destroy(desk.number(machine))
    status = desk.look(machine)
    assert (status.state, status.rental, status.detail) == ("destroyed", machine.rental, "it is gone, and not by us")
    assert machine.destroy(proof).state == "destroyed"


def test_a_machine_that_others_made(desk: Desk) -> None:
    """No papers: its host key must be known otherwise, and nobody says that it was interrupted."""
    body = {"client_id": "me", "image": "ubuntu", "disk": 10, "env": {"A": "1"}, "runtype": "ssh_direc ssh_proxy"}
    _, answer = desk.vast.service.create(7_000_001, body)
    machine = desk.machine(str(answer["new_contract"]))
    desk.clock.advance(100)
    assert machine.status().state == "running"
    target = machine.access().ssh
    assert target is not None
    assert (target.host, target.host_key, target.user) == ("127.0.0.1", "", "root")
    desk.vast.service.outbid(desk.number(machine))
    assert machine.status().state == "stopped"
    machine.create()
    desk.vast.service.outbid(desk.number(machine))
    assert machine.status().state == "interrupted"


@pytest.mark.parametrize("path", ["/data", "/data/", "/a b/ü"])
def test_another_workspace(desk: Desk, path: str) -> None:
    made = desk.running()
    machine = desk.machine(f"vast:{made.id}{path}")
    assert machine.address == f"vast:{made.id}{path.rstrip('/')}"
    access = machine.access()
    assert access == Access([path.rstrip("/").encode()], f".torpor/hosts/{machine.rental}".encode(), ssh=access.ssh)
    assert desk.machine(f"vast:{made.id}/workspace").address == f"vast:{made.id}"


@pytest.mark.parametrize("name", ["0", "01", "1/", "1//data", "1/a/../b", "1/./a", "1/a\n", "1x", "1" * 30, "1/a\0"])
def test_names_that_are_none(desk: Desk, name: str) -> None:
    with pytest.raises(UsageError):
        desk.machine(name)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wish":"else"}', "\xff"])
def test_papers_that_are_damaged(desk: Desk, text: str) -> None:
    """No host key is made up, and nothing destroyed."""
    machine = desk.running()
    proof = desk.proof(machine)
    (desk.folder / "vast" / f"{machine.id}.json").write_text(text, encoding="latin-1")
    for call in (machine.status, machine.access, machine.create, lambda: machine.destroy(proof)):
        with pytest.raises(MachineError, match="papers"):
            call()
    assert len(desk.vast.service.instances) == 1

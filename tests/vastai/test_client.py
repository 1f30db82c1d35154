"""The client of vast.ai's API: its limits are kept, its refusals told apart, and its key shown to nobody."""

from __future__ import annotations

import traceback

import pytest

from tests.emulators.vast.server import CUT, LOST, QUOTA, TOO_MANY_JSON, TOO_MANY_TEXT, Fault
from tests.vastai.desk import Desk, identity
from torpor.errors import MachineError, UsageError
from torpor.machines.vast_client import PATIENCE, Client
from torpor.machines.vast_errors import VastBusy, VastDenied, VastGone, VastQuota, VastRefused, VastSilent
from torpor.machines.vast_start import script

SEARCH = {"rentable": {"eq": True}, "order": [["dph_total", "asc"]], "type": "on-demand", "limit": 5}
BODY = {"client_id": "me", "image": "ubuntu", "disk": 10, "env": {}, "price": None, "label": "mine"}


def test_calls_wait_for_their_turn(desk: Desk) -> None:
    """With the service's limits on, none is refused; kinds of calls do not hold each other up."""
    desk.vast.limits = True
    client, began = desk.client(VAST_PACE="1"), desk.clock.now()
    for _ in range(3):
        client.search(SEARCH)
    assert desk.clock.now() - began == 12
    client.show("1")
    assert desk.clock.now() - began == 12
    other = desk.client(VAST_PACE="1")
    other.show("1")
    assert desk.clock.now() - began == 14, "the limit is the account's, not a client's"
    assert len(desk.vast.requests) == 5


@pytest.mark.parametrize(("fault", "wait"), [(TOO_MANY_JSON, 4.5), (TOO_MANY_TEXT, 2.0)], ids=["json", "text"])
def test_too_many_requests(desk: Desk, fault: Fault, wait: float) -> None:
    """Somebody else uses the account: wait as long as is told, or as the limit says, and again."""
    desk.vast.faults.add("show", fault, fault)
    began = desk.clock.now()
    assert desk.client().show("1") is None
    assert desk.clock.now() - began == 2 * wait
    assert len(desk.vast.seen("show")) == 3


@pytest.mark.parametrize("fault", [TOO_MANY_JSON, TOO_MANY_TEXT], ids=["json", "text"])
def test_too_many_requests_to_create(desk: Desk, fault: Fault) -> None:
    """The service did not look at the request, so it may be sent again: one machine comes of it."""
    desk.vast.faults.add("create", fault, fault)
    desk.client().create("7000001", BODY)
    assert len(desk.vast.service.instances) == 1


def test_too_many_requests_for_ever(desk: Desk) -> None:
    desk.vast.faults.add("show", *[TOO_MANY_JSON] * 100)
    began = desk.clock.now()
    with pytest.raises(VastBusy):
        desk.client().show("1")
    assert desk.clock.now() - began <= PATIENCE


def test_the_searches_of_a_day_are_used_up(desk: Desk) -> None:
    desk.vast.faults.add("search", QUOTA)
    with pytest.raises(VastQuota):
        desk.client().search(SEARCH)
    assert len(desk.vast.requests) == 1, "asking again is of no use before midnight"


@pytest.mark.parametrize("fault", [CUT, LOST, (502, "<html>"), (503, {}), (500, {"error": "x"})], ids=str)
def test_what_can_be_asked_again_is(desk: Desk, fault: Fault) -> None:
    made = str(desk.client().create("7000001", BODY)["new_contract"])
    client = desk.client()
    for kind in ("search", "list", "show", "change", "destroy"):
        desk.vast.faults.add(kind, fault)
    assert client.search(SEARCH)
    assert len(list(client.instances())) == 1
    client.label(made, "other")
    assert client.show(made) is not None
    if fault == LOST:
        with pytest.raises(VastGone):
            client.destroy(made)
    else:
        client.destroy(made)
    assert desk.vast.service.instances == {}


@pytest.mark.parametrize("fault", [CUT, LOST, (502, "<html>"), (504, {})], ids=str)
def test_a_create_is_sent_once(desk: Desk, fault: Fault) -> None:
    desk.vast.faults.add("create", fault)
    with pytest.raises(VastSilent) as caught:
        desk.client().create("7000001", BODY)
    assert caught.value.sent
    assert len(desk.vast.seen("create")) == 1


def test_nobody_there(desk: Desk) -> None:
    with pytest.raises(VastSilent) as caught:
        desk.client(VAST_URL="http://127.0.0.1:9").create("7000001", BODY)
    assert not caught.value.sent


@pytest.mark.parametrize("answer", ["", "[]", "null", "<html>", {"offers": {}}, {"other": 1}], ids=str)
def test_answers_that_are_none(desk: Desk, answer: object) -> None:
    desk.vast.faults.add("search", *[(200, answer)] * 9)
    desk.vast.faults.add("show", *[(200, answer)] * 9)
    for call in (lambda: desk.client().search(SEARCH), lambda: desk.client().show("1")):
        with pytest.raises(VastSilent):
            call()


def test_refusals(desk: Desk) -> None:
    client = desk.client()
    with pytest.raises(VastGone):
        client.create("1", BODY)
    desk.vast.service.take(7_000_001)
    with pytest.raises(VastGone):
        client.create("7000001", BODY)
    with pytest.raises(VastRefused) as caught:
        client.create("7000002", BODY | {"disk": 1})
    assert caught.value.code == "invalid_args"
    with pytest.raises(VastGone):
        client.destroy("1")
    desk.vast.faults.add("destroy", (200, {"success": False, "error": "no_such_instance"}))
    with pytest.raises(VastGone):
        client.destroy("1")
    desk.vast.faults.add("change", (200, {"success": False, "msg": "not now"}))
    with pytest.raises(VastRefused, match="not now"):
        client.label("1", "x")


def test_pages(desk: Desk) -> None:
    """The service gives 25 at once."""
    for number in range(60):
        desk.vast.service.offers[number + 1] = desk.vast.service.offers[7_000_001] | {"id": number + 1}
        desk.vast.service.create(number + 1, BODY | {"label": f"mine {number}"})
    assert [row["label"] for row in desk.client().instances()] == [f"mine {number}" for number in range(60)]
    assert len(desk.vast.seen("list")) == 3


def test_a_page_that_leads_to_itself(desk: Desk) -> None:
    desk.vast.faults.add("list", *[(200, {"instances": [], "next_token": "again"})] * 5)
    assert list(desk.client().instances()) == []


def test_keys_of_an_instance(desk: Desk) -> None:
    made = str(desk.client().create("7000001", BODY)["new_contract"])
    line = identity().login
    desk.client().attach_key(made, line)
    assert [key["public_key"] for key in desk.client().keys(made)] == [line]


def test_logs(desk: Desk) -> None:
    """They are somewhere else, where the account's key does not go: the emulator refuses one there."""
    made = str(desk.client().create("7000001", BODY)["new_contract"])
    assert desk.client().logs(made, 2) == f"booted {made}\n" * 2
    desk.vast.faults.add("logs", (200, {"success": True, "result_url": "nowhere"}))
    with pytest.raises(VastSilent):
        desk.client().logs(made)


def test_webhooks(desk: Desk) -> None:
    client = desk.client()
    hook = client.add_webhook("torpor", "https://example.org/hook", ["client:outbid"])["webhook"]
    assert hook["webhook_secret"]
    number = str(hook["id"])
    assert [(one["id"], "webhook_secret" in one) for one in client.webhooks()] == [(hook["id"], False)]
    client.change_webhook(number, {"event_types": ["client:outbid", "client:instance_offline"]})
    assert client.webhooks()[0]["event_types"] == ["client:outbid", "client:instance_offline"]
    assert client.rotate_webhook(number)["webhook"]["webhook_secret"] != hook["webhook_secret"]
    client.test_webhook(number)
    client.remove_webhook(number)
    assert client.webhooks() == []


def test_the_key_is_shown_to_nobody(desk: Desk) -> None:
    key = desk.vast.service.key
    said: list[str] = [repr(desk.client()), repr(desk.provider), repr(desk.vast.accounts)]
    for fault in (CUT, (401, {"msg": f"Invalid user key {key}"}), (400, {"error": f"{key}\x1b[31m", "msg": key}), (500, key), (404, key)):
        desk.vast.faults.add("create", fault)
        with pytest.raises(MachineError) as caught:
            desk.client().create("7000001", BODY)
        said += ["".join(traceback.format_exception(caught.value)), str(caught.value.as_dict())]
    assert len(said) == 13
    assert not [words for words in said if key in words]
    assert "\x1b" not in "".join(said)


def test_the_key_goes_over_tls_or_loopback_alone(desk: Desk) -> None:
    for url in ("http://vast.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "vast.example", "http://127.0.0.1:1@vast.example"):
        with pytest.raises(VastDenied, match="https"):
            desk.client(VAST_URL=url).search(SEARCH)
    assert desk.vast.requests == []


def test_without_an_account(desk: Desk) -> None:
    with pytest.raises(VastDenied, match="VAST_API_KEY"):
        desk.client(VAST_API_KEY="").show("1")
    with pytest.raises(VastDenied):
        desk.client(VAST_API_KEY="another").show("1")
    for key in ("schlüssel", "\udcff", "a\nb"):
        with pytest.raises(VastDenied, match="letters that no key has"):
            desk.client(VAST_API_KEY=key).show("1")


def test_a_pace_that_is_none(desk: Desk) -> None:
    with pytest.raises(UsageError, match="VAST_PACE"):
        desk.client(VAST_PACE="fast")


def test_the_script_is_short_enough_and_quoted() -> None:
    keys = identity()
    made = script(keys)
    assert len(made) < 1500
    assert keys.public in made
    nasty = type(keys)(keys.private, keys.public, "ssh-ed25519 AAAA it's; $(touch x)")
    assert "'\"'\"'" in script(nasty)
    for bad in (
        type(keys)("", keys.public, keys.login),
        type(keys)(keys.private, keys.public, "a\nb"),
        type(keys)(keys.private, keys.public, "x" * 5000),
    ):
        with pytest.raises(UsageError):
            script(bad)


def test_repr_of_a_client_made_of_nothing() -> None:
    from torpor.access import Access

    assert repr(Client(Access({}))) == "Client(https://console.vast.ai)"

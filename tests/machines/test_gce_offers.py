"""What Google is known to rent out, at what price, and how the settings change it. Nothing is asked."""

from __future__ import annotations

import math

import pytest

from torpor.access import Access
from torpor.errors import UsageError
from torpor.machines import gce_prices
from torpor.machines.gce_offers import offers
from torpor.machines.gce_place import Place, parse, rental_of
from torpor.machines.gce_request import Kind, disk_gb, kind_of
from torpor.plan.offers import Wish, rank

CPU = Wish(gpus=0, interruptible=True)
NONE = Access({})


@pytest.mark.parametrize(
    ("kind", "region", "spot", "expected"),
    [
        ("e2-micro", "us-central1", True, 0.0037), ("e2-small", "us-east1", True, 0.0074), ("e2-medium", "us-west1", True, 0.0147),
        ("e2-standard-2", "us-central1", True, 0.0294), ("e2-medium", "europe-west4", True, 0.0154),
        ("e2-medium", "us-east5", True, 0.0076), ("e2-medium", "us-west4", True, 0.0039),
        ("e2-medium", "us-central1", False, 0.0335), ("e2-standard-2", "us-central1", False, 0.067),
    ],
)  # fmt: skip
def test_prices_that_are_known(kind: str, region: str, spot: bool, expected: float) -> None:
    found = gce_prices.machine(kind, region, spot, NONE)
    assert found is not None
    assert math.isclose(found, expected, abs_tol=0.0001)


@pytest.mark.parametrize(
    ("kind", "region", "spot"),
    [("e2-medium", "asia-east1", True), ("e2-medium", "us-east1", False), ("g2-standard-4", "us-central1", True)],
)
def test_prices_that_are_not(kind: str, region: str, spot: bool) -> None:
    assert gce_prices.machine(kind, region, spot, NONE) is None
    assert gce_prices.disk("pd-extreme", 100) is None


def test_a_machine_without_a_gpu() -> None:
    best = rank(CPU, offers(CPU, NONE)).best
    assert (best[0].machine, best[0].place, best[0].interruptible) == ("e2-medium", "us-west4-a", True)
    assert best[0].price == pytest.approx(4 * 0.000343 + 0.00256 + 10 / 730 + 0.0025)
    near = rank(Wish(gpus=0, interruptible=True, region="eu"), offers(CPU, NONE)).best
    assert {offer.country for offer in near} == {"NL"}
    firm = Wish(gpus=0)
    assert {(offer.place.rpartition("-")[0], offer.interruptible) for offer in rank(firm, offers(firm, NONE)).best} == {
        ("us-central1", False)
    }


def test_what_has_no_price_is_not_taken_for_free() -> None:
    wish = Wish(gpu="L4", interruptible=True)
    found = offers(wish, NONE)
    assert {(offer.gpu, offer.price) for offer in found} == {("L4", 0.0)}
    ranking = rank(wish, found)
    assert ranking.best == []
    assert {lost.why for lost in ranking.lost} == {"its price is not told"}


def test_a_price_that_its_user_knows() -> None:
    accounts = Access({"GCE_PRICES": "g2-standard-4/spot=0.28, a2-highgpu-1g=3.67,"})
    wish = Wish(gpu="nvidia l4", interruptible=True)
    best = rank(wish, offers(wish, accounts)).best
    assert {(offer.machine, offer.interruptible, round(offer.price, 4)) for offer in best} == {("g2-standard-4", True, 0.2962)}
    wish = Wish(gpu="A100 40GB")
    assert {round(offer.price, 4) for offer in rank(wish, offers(wish, accounts)).best} == {3.6887}


def test_names_of_gpus() -> None:
    def types(**wish: object) -> set[str]:
        return {offer.machine for offer in offers(Wish(**wish), NONE)}  # type: ignore[arg-type]

    assert types(gpu="A100") == {"a2-highgpu-1g", "a2-ultragpu-1g"}
    assert types(gpu="A100 80GB") == {"a2-ultragpu-1g"}
    assert types(gpu="H100", gpus=8) == {"a3-highgpu-8g"}
    assert types(gpu="RTX 4090") == set()


def test_the_size_of_the_disk() -> None:
    wish = Wish(gpus=0, interruptible=True, disk=250 << 30)
    found = offers(wish, NONE)
    assert {offer.disk for offer in found} == {250 << 30}
    assert found[0].price - offers(CPU, NONE)[0].price == pytest.approx(150 * 0.10 / 730)
    assert (disk_gb(NONE, 0), disk_gb(NONE, (100 << 30) + 1), disk_gb(Access({"GCE_DISK_GB": "20"}), 5)) == (100, 101, 20)
    assert {offer.price for offer in offers(CPU, Access({"GCE_DISK_TYPE": "pd-ssd"}))} == {0.0}


def test_a_type_of_ones_own() -> None:
    accounts = Access({"GCE_MACHINE_TYPE": "n2-standard-8", "GCE_PRICES": "n2-standard-8/spot=0.08"})
    assert {offer.machine for offer in rank(CPU, offers(CPU, accounts)).best} == {"n2-standard-8"}
    wish = Wish(gpu="T4")
    assert {kind_of(offer.id) for offer in offers(wish, accounts)} >= {Kind("us-central1-a", "n1-standard-4", False, "nvidia-tesla-t4:1")}


def test_an_offer_is_named_by_its_id() -> None:
    ids = [offer.id for offer in [*offers(CPU, NONE), *offers(Wish(interruptible=True), NONE)]]
    assert [kind_of(id).id for id in ids] == ids
    assert len(set(ids)) == len(ids) > 100


@pytest.mark.parametrize(
    "settings",
    [
        {"GCE_DISK_GB": "many"}, {"GCE_DISK_GB": "5"}, {"GCE_PRICES": "x"}, {"GCE_PRICES": "x=-1"}, {"GCE_PRICES": "x/odd=1"},
        {"GCE_PRICES": "x=nan"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_mean_nothing(settings: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        offers(CPU, Access(settings))


@pytest.mark.parametrize("text", ["", "zone", "zone/", "/e2-medium", "a/b/c"])
def test_what_is_no_offer(text: str) -> None:
    with pytest.raises(UsageError):
        kind_of(text)


# addresses


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("my-project/us-central1-a/gpu-1", Place("my-project", "us-central1-a", "gpu-1")),
        ("my-project/us-central1-a/gpu-1/workspace", Place("my-project", "us-central1-a", "gpu-1")),
        ("example.com:my-project/us-central1-a/a/srv/x y", Place("example.com:my-project", "us-central1-a", "a", "/srv/x y")),
    ],
)  # fmt: skip
def test_addresses(text: str, place: Place) -> None:
    assert parse(text) == place
    assert parse(place.address.removeprefix("gce:")) == place
    assert place.address.endswith("/workspace") is False


@pytest.mark.parametrize(
    "text",
    ["", "p", "project/zone", "project/us-central1-a", "project/us-central1-a/", "Project/us-central1-a/x", "project/us-central1/x",
     "project/us-central1-a/x/../y", "project/us-central1-a/x//y", "project/us-central1-a/x/y/", "project/us-central1-a/x/y\n",
     "project/us-central1-a/X", "proj\0ect/us-central1-a/x"],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_a_rental_is_of_one_number() -> None:
    assert rental_of(42) == "14f7e909775cd6613cd20f2e5b84390d"
    assert rental_of(43) != rental_of(42)

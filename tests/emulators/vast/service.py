"""One account of the emulated vast.ai: offers, instances, keys, webhooks, and what can go wrong with them."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.emulators.vast import offers
from tests.emulators.vast.instance import Box, Instance, Row, Trouble
from torpor.clock import SYSTEM, Clock

PAGE_MAX = 25
ONSTART_MAX = 4096
Answer = tuple[int, Any]


def no(status: int, error: str, msg: str, **more: Any) -> Answer:
    return status, {"success": False, "error": error, "msg": msg, **more}


class Service:
    """`boot`: seconds by `clock` from a start to running. `box` makes what answers at an instance's port, in a folder of its own."""

    def __init__(self, folder: Path, box: Callable[[Path], Box], clock: Clock = SYSTEM, boot: float = 30.0) -> None:
        self.clock, self.boot = clock, boot
        self.folder = folder
        self._box = box
        self.lock = threading.RLock()
        self.key = "vastkey" + secrets.token_hex(28)
        self.offers = {row["id"]: row for row in offers.table()}
        self.instances: dict[int, Instance] = {}
        self.account_keys: list[Row] = []
        self.webhooks: dict[int, Row] = {}
        self.logs: dict[str, Answer] = {}  # by path: what instances printed, once it was asked for
        self.url = ""
        self.stubborn: set[int] = set()  # they answer that they are destroyed, and live on
        self.next_trouble: Trouble = ""
        self._number = 12_345_000

    @property
    def now(self) -> float:
        return self.clock.now()

    def _next(self) -> int:
        self._number += 1
        return self._number

    # what can happen to an instance

    def outbid(self, instance: int) -> None:
        """Somebody bids more: it stops at once, and nobody is asked."""
        with self.lock:
            self.instances[instance].contract = self.instances[instance].intended = "stopped"
            self._settle()

    def resume(self, instance: int) -> None:
        """Its bid is the highest again."""
        with self.lock:
            self._start(self.instances[instance])

    def offline(self, instance: int) -> None:
        self.instances[instance].alive = False

    def online(self, instance: int) -> None:
        self.instances[instance].alive = True

    def exit(self, instance: int) -> None:
        self.instances[instance].exited = True

    def take(self, ask: int) -> None:
        """Somebody else rents it."""
        self.offers[ask] = self.offers[ask] | {"rentable": False, "rented": True}

    def billed(self) -> list[str]:
        with self.lock:
            return [instance.label for instance in self.instances.values()]

    def close(self) -> None:
        with self.lock:
            for instance in self.instances.values():
                instance.box.remove()

    def _lines(self, instance: Instance) -> list[str]:
        return [key["public_key"] for key in [*self.account_keys, *instance.keys]]

    def _settle(self) -> None:
        for instance in self.instances.values():
            instance.settle(self.now, self._lines(instance))

    def _start(self, instance: Instance) -> None:
        instance.intended, instance.exited = "running", False
        if instance.trouble != "scheduling" and instance.contract == "stopped":
            instance.contract, instance.started = "running", self.now

    # calls

    def search(self, query: Row) -> Answer:
        with self.lock:
            try:
                return 200, {"offers": offers.search(list(self.offers.values()), query)}
            except (offers.Unknown, TypeError, ValueError) as error:
                return no(400, "invalid_args", f"bad query: {error}")

    def create(self, ask: int, body: Row) -> Answer:
        with self.lock:
            offer = self.offers.get(ask)
            if offer is None:
                return no(404, "no_such_ask", f"error 404/3603: no_such_ask Instance type {ask} is not available.", ask_id=ask)
            bad = _bad(body, offer)
            if bad:
                return no(400, "invalid_args", f"error 400/3502: {bad}", ask_id=ask)
            if not offer["rentable"]:
                return no(410, "no_such_ask", f"error 410/3907: no_such_ask Instance type {ask} is no longer available.", ask_id=ask)
            price = None if body.get("price") is None else float(str(body["price"]))
            if price is not None and not 0.001 <= price <= 32:
                return no(400, "invalid_price", "price must be between 0.001 and 32", ask_id=ask)
            made = self._make(offer, body)
            if price is not None and price < offer["min_bid"]:
                made.contract = made.intended = "stopped"
                return no(400, "insufficient_bid", f"the bid is below {offer['min_bid']}", ask_id=ask, new_contract=made.id)
            self.take(ask)
            return 200, {"success": True, "new_contract": made.id, "instance_api_key": made.token}

    def _make(self, offer: Row, body: Row) -> Instance:
        number = self._next()
        made = Instance(number, offer, body, self._box(self.folder / str(number)), self.now, self.boot, self.next_trouble)
        made.started, made.label, made.token = self.now, body.get("label") or "", secrets.token_hex(32)
        made.price = None if body.get("price") is None else float(str(body["price"]))
        if made.trouble == "scheduling":
            made.contract = "stopped"
        self.next_trouble = ""
        self.instances[number] = made
        return made

    def page(self, query: dict[str, str]) -> Answer:
        with self.lock:
            self._settle()
            limit = int(query.get("limit", PAGE_MAX))
            if not 1 <= limit <= PAGE_MAX:
                return no(400, "invalid_args", f"limit must be between 1 and {PAGE_MAX}")
            after = int(base64.b64decode(query["after_token"])) if query.get("after_token") else 0
            (order,) = json.loads(query.get("order_by", '[{"col":"id","dir":"asc"}]'))
            if order != {"col": "id", "dir": "asc"}:
                return no(400, "invalid_args", "the emulator lists by id only")
            filters = json.loads(query.get("select_filters", "{}"))
            rows = [one.row(self.now) for one in self.instances.values()]
            rows = [row for row in rows if all(offers._holds(row, name, rule) for name, rule in filters.items())]
            part = [row for row in rows if row["id"] > after][:limit]
            more = bool(part) and part[-1]["id"] != rows[-1]["id"]
            if "select_cols" in query:
                columns = json.loads(query["select_cols"])
                part = [{name: row.get(name) for name in columns} for row in part]
            token = base64.b64encode(str(part[-1]["id"]).encode()).decode() if more else None
            return 200, {
                "success": True,
                "instances_found": len(part),
                "total_instances": len(rows),
                "label_counts": {},
                "next_token": token,
                "instances": part,
            }

    def show(self, instance: int) -> Answer:
        with self.lock:
            self._settle()
            found = self.instances.get(instance)
            return 200, {"instances": None if found is None else found.row(self.now)}

    def change(self, instance: int, body: Row) -> Answer:
        with self.lock:
            found = self.instances.get(instance)
            if found is None:
                return self._none(instance)
            if "label" in body:
                if len(body["label"]) > 1024:
                    return no(400, "invalid_args", "label is too long")
                found.label = body["label"]
            state = body.get("state")
            if state == "running":
                self._start(found)
            elif state == "stopped":
                found.intended = found.contract = "stopped"
            elif state is not None:
                return no(400, "invalid_args", f"state {state}")
            self._settle()
            return 200, {"success": True}

    def bid(self, instance: int, body: Row) -> Answer:
        with self.lock:
            found = self.instances.get(instance)
            if found is None:
                return self._none(instance)
            given = body.get("price")
            price = float(found.offer["min_bid"]) if given is None else float(str(given))
            if not 0.001 <= price <= 32:
                return no(400, "invalid_price", "price must be between 0.001 and 32")
            found.price = price
            return 200, {"success": True}

    def destroy(self, instance: int) -> Answer:
        with self.lock:
            found = self.instances.get(instance)
            if found is None:
                return self._none(instance)
            if instance not in self.stubborn:
                found.box.remove()
                del self.instances[instance]
                self.offers[found.offer["id"]] = found.offer | {"rentable": True, "rented": False}
            return 200, {"success": True, "msg": f"destroying instance {instance}."}

    def request_logs(self, instance: int, body: Row) -> Answer:
        with self.lock:
            if instance not in self.instances:
                return self._none(instance)
            path = f"/logs/{instance}"
            self.logs[path] = 200, f"booted {instance}\n" * min(3, int(body.get("tail") or 1000))
            return 200, {"success": True, "result_url": self.url + path}

    def _none(self, instance: int) -> Answer:
        return no(404, "no_such_instance", f"error 404/3603: no_such_instance Instance {instance} not found")

    # keys and webhooks

    def attach(self, instance: int, body: Row) -> Answer:
        with self.lock:
            found = self.instances.get(instance)
            if found is None:
                return self._none(instance)
            if not str(body.get("ssh_key", "")).startswith(("ssh-ed25519 ", "ssh-rsa ", "ecdsa-")):
                return no(400, "invalid_args", "not an SSH public key")
            found.keys.append(self._key(body["ssh_key"]))
            if found.up:
                found.box.authorize(self._lines(found))
            return 200, {"success": True, "msg": "SSH key attached successfully"}

    def keys(self, instance: int) -> Answer:
        with self.lock:
            found = self.instances.get(instance)
            return self._none(instance) if found is None else (200, {"success": True, "ssh_keys": json.dumps(found.keys)})

    def detach(self, instance: int, key: int) -> Answer:
        with self.lock:
            found = self.instances.get(instance)
            if found is None:
                return self._none(instance)
            found.keys = [row for row in found.keys if row["id"] != key]
            return 200, {"success": True, "msg": "SSH key removed"}

    def _key(self, line: str) -> Row:
        return {"id": self._next(), "user_id": 123, "public_key": line.strip(), "created_at": self.now, "deleted_at": None}

    def add_account_key(self, body: Row) -> Answer:
        with self.lock:
            self.account_keys.append(self._key(body["ssh_key"]))
            return 200, {"success": True, "key": self.account_keys[-1]}

    def hooks(self) -> Iterator[Row]:
        """Without their secrets."""
        for hook in self.webhooks.values():
            yield {name: value for name, value in hook.items() if name != "webhook_secret"}

    def add_hook(self, body: Row) -> Answer:
        with self.lock:
            if len(self.webhooks) >= 4:
                return no(400, "invalid_args", "at most 4 webhooks")
            if not str(body.get("webhook_url", "")).startswith("https://"):
                return no(400, "invalid_args", "webhook_url must be https")
            number = self._next()
            hook = {"id": number, "user_id": 123, "name": body["name"], "webhook_url": body["webhook_url"], "created_at": self.now,
                    "event_types": body["event_types"], "updated_at": self.now, "webhook_secret": secrets.token_hex(32)}  # fmt: skip
            self.webhooks[number] = hook
            return 200, {"success": True, "webhook": hook, "enabled_notification_preferences": body["event_types"]}

    def change_hook(self, hook: int, body: Row) -> Answer:
        return self._hook(hook, body)

    def rotate_hook(self, hook: int) -> Answer:
        return self._hook(hook, {"webhook_secret": secrets.token_hex(32)}, show=True)

    def remove_hook(self, hook: int) -> Answer:
        found = self._hook(hook, {})
        self.webhooks.pop(hook, None)
        return found

    def _hook(self, hook: int, change: Row, *, show: bool = False) -> Answer:
        with self.lock:
            if hook not in self.webhooks:
                return no(404, "not_found", "no such webhook")
            self.webhooks[hook] |= change | {"updated_at": self.now}
            found = {name: value for name, value in self.webhooks[hook].items() if show or name != "webhook_secret"}
            return 200, {"success": True, "webhook": found}


def _bad(body: Row, offer: Row) -> str:
    """What is wrong with a request to create; empty if nothing."""
    if body.get("client_id") != "me" or not (body.get("image") or body.get("template_hash_id")):
        return "client_id and image are required"
    if not isinstance(body.get("env") or {}, dict):
        return "env must be an object"
    if not 8 <= float(body.get("disk") or 0) <= offer["disk_space"]:
        return "disk: at least 8, and no more than the machine has"
    if len(body.get("label") or "") > 256 or len(body.get("onstart") or "") > ONSTART_MAX:
        return "label or onstart is too long"
    return ""

"""The instances of one Google project: a thin layer over `google-cloud-compute` that waits for operations and tells their errors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torpor.clock import parse_rfc3339
from torpor.errors import MachineError
from torpor.machines.gce_errors import GceChanged, GceNotThere, GceRefused, GceUnavailable, asking, failed
from torpor.machines.gce_login import services

if TYPE_CHECKING:
    from torpor.machines.base import Ground
    from torpor.machines.gce_place import Place

TRIES = 4  # of a request that got no answer
READY = "torpor/ready"  # the guest attribute that the start-up script sets

_CALL = 60.0  # seconds without an answer
_WAIT = 150.0  # Google holds a `wait` for two minutes
_OPERATION = 600.0  # seconds that an operation may take: a start waits for the machine
_GONE = 120.0  # seconds between the end of a delete and the end of the instance
_PREEMPTED = 'operationType="compute.instances.preempted"'


def pauses(seconds: float) -> Iterator[float]:
    """How long to wait between looks at something that takes some seconds, or many: soon at first, then now and then."""
    wait = 1.0
    while seconds > 0:
        yield min(wait, seconds)
        seconds -= wait
        wait = min(2 * wait, 20.0)


class Client:
    """Any thread may call. Raises `MachineError`: see gce_errors. `pause` waits between two tries."""

    def __init__(self, project: str, ground: Ground, pause: Callable[[float], None] = time.sleep) -> None:
        self._project = project
        self._accounts = ground.accounts
        self._clock = ground.clock
        self._pause = pause

    # reading

    def get(self, place: Place) -> Any | None:
        """The instance; None if Google says that there is none of that name."""
        try:
            return self._try("look at", place.address, lambda: self._instances.get(request=self._of(place), **_OPTIONS))
        except GceNotThere:
            return None

    def labelled(self, label: str) -> list[tuple[str, Any]]:
        """(zone, instance) of each that has a label, in all zones. A zone that Google can't ask is an error: nothing is left out."""

        def pages() -> list[tuple[str, Any]]:
            request = {"project": self._project, "filter": f"labels.{label}:*"}
            found: list[tuple[str, Any]] = []
            for page in self._instances.aggregated_list(request=request, **_OPTIONS).pages:
                silent = list(page.unreachables)
                for scope, listed in page.items.items():
                    silent += [] if listed.warning.code in ("", "NO_RESULTS_ON_PAGE") else [scope]
                    found += [(scope.rpartition("/")[2], instance) for instance in listed.instances]
                if silent:
                    where = ", ".join(sorted(scope.rpartition("/")[2] for scope in silent))
                    raise GceUnavailable(
                        f"Google Compute Engine can't say what is in {where}.", safe="Nothing was changed.", remedy="Try again later."
                    )
            return found

        found: list[tuple[str, Any]] = self._try("list the machines of", self._project, pages)
        return found

    def preempted(self, place: Place, instance: Any) -> str:
        """What Google says of it if it took the machine back after its last start; else empty."""

        def listed() -> list[Any]:
            request = {"project": place.project, "zone": place.zone, "filter": _PREEMPTED}
            return list(self._operations.list(request=request, **_OPTIONS))

        since = parse_rfc3339(instance.last_start_timestamp) if instance.last_start_timestamp else 0.0
        for operation in self._try("list the operations of", place.address, listed):
            when = operation.end_time or operation.insert_time
            if operation.target_id == instance.id and when and parse_rfc3339(when) >= since:
                return operation.status_message or "Instance was preempted."
        return ""

    def attribute(self, place: Place) -> str | None:
        """What the start-up script told; empty if nothing yet, None where the project does not let machines tell."""
        try:
            request = self._of(place) | {"query_path": READY}
            found = self._try(
                "ask for the state of", place.address, lambda: self._instances.get_guest_attributes(request=request, **_OPTIONS)
            )
        except GceNotThere:
            return ""
        except (GceRefused, GceChanged):
            return None
        return next((item.value for item in found.query_value.items), "")

    # changing

    def insert(self, place: Place, resource: dict[str, Any], request: str) -> None:
        """Make it, and wait until it is made. `request`: a UUID; asked again with the same one, Google makes no second."""
        self._change("make", place, "insert_unary", request, whole=True, instance_resource=resource)

    def delete(self, place: Place, number: int, check: Callable[[Any], None] | None = None) -> None:
        """Delete the instance of this number, and wait until Google has it no more. One of the same name and another number is left.
        `check` looks at it before each request; what it raises keeps that request from being sent."""

        def first() -> None:
            found = self.get(place)
            if found is None or found.id != number:
                raise GceNotThere(f"{place.address} is not there.")
            if check is not None:
                check(found)

        with suppress(GceNotThere):
            self._change("delete", place, "delete_unary", first=first)
        left: Any = None
        for wait in (*pauses(_GONE), 0.0):
            left = self.get(place)
            if left is None or left.id != number:
                return
            self._pause(wait)
        raise MachineError(
            f"Google Compute Engine says that {place.address} is deleted, and still has it ({left.status}).",
            safe="It is still billed.",
            remedy="Destroy it again; if it stays, delete it in Google's console.",
        )

    def start(self, place: Place) -> None:
        self._change("start", place, "start_unary")

    def stop(self, place: Place) -> None:
        self._change("stop", place, "stop_unary")

    def set_labels(self, place: Place, instance: Any, labels: dict[str, str]) -> None:
        """Raises `GceChanged` if its labels are not those of `instance` any more."""
        resource = {"labels": labels, "label_fingerprint": instance.label_fingerprint}
        self._change("label", place, "set_labels_unary", instances_set_labels_request_resource=resource)

    def set_metadata(self, place: Place, instance: Any, items: dict[str, str]) -> None:
        """Raises `GceChanged` if its metadata is not that of `instance` any more."""
        resource = {"items": [{"key": key, "value": value} for key, value in items.items()], "fingerprint": instance.metadata.fingerprint}
        self._change("change the metadata of", place, "set_metadata_unary", metadata_resource=resource)

    # how

    @property
    def _instances(self) -> Any:
        return services(self._accounts).instances

    @property
    def _operations(self) -> Any:
        return services(self._accounts).operations

    def _of(self, place: Place) -> dict[str, Any]:
        return {"project": place.project, "zone": place.zone, "instance": place.name}

    def _change(
        self,
        doing: str,
        place: Place,
        method: str,
        request: str = "",
        whole: bool = False,
        first: Callable[[], None] = lambda: None,
        **fields: Any,
    ) -> None:
        """Send it, again if there is no answer: its number makes it one request. Then wait for the operation. `first` is called before
        each time it is sent."""
        where = {"project": place.project, "zone": place.zone} if whole else self._of(place)
        sent = where | fields | {"request_id": request or str(uuid.uuid4())}
        operation = self._try(doing, place.address, lambda: getattr(self._instances, method)(request=sent, **_OPTIONS), first)
        self._finish(doing, place, operation)

    def _finish(self, doing: str, place: Place, operation: Any) -> None:
        """Wait for an operation by the zone's own service, and raise its error. The client's `result()` would ask Google's own address."""
        until = self._clock.now() + _OPERATION
        asked = {"project": place.project, "zone": place.zone, "operation": operation.name}
        while operation.status != services(self._accounts).done:
            if self._clock.now() >= until:
                raise GceUnavailable(
                    f"Google Compute Engine took too long to {doing} {place.address}; it may still do it.",
                    remedy="Look at its state later.",
                )
            operation = self._try(
                f"wait for the end of its operation to {doing}", place.address, lambda: self._operations.wait(request=asked, **_WAITING)
            )
        for error in operation.error.errors:
            raise failed(doing, place.address, error.code, error.message)
        if operation.http_error_status_code:
            raise failed(doing, place.address, f"status {operation.http_error_status_code}", "")

    def _try(self, doing: str, what: str, call: Callable[[], Any], first: Callable[[], None] = lambda: None) -> Any:
        for turn in range(TRIES - 1):
            first()
            try:
                with asking(doing, what):
                    return call()
            except GceUnavailable:
                self._pause(2.0**turn)
        first()
        with asking(doing, what):
            return call()


_OPTIONS = {"timeout": _CALL, "retry": None}  # torpor tries again itself
_WAITING = {"timeout": _WAIT, "retry": None}

"""What a person types into Prefect's form has the same bounds as on the command line."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from flows.hibernate import hibernate
from flows.replicate import replicate
from flows.wake import wake


@pytest.mark.parametrize(
    ("flow", "given"),
    [
        (hibernate, {"machine": "local:a", "rounds": 0}),
        (hibernate, {"machine": "local:a", "before_seconds": 0}),
        (wake, {"boot_seconds": 0}),
        (wake, {"lease_seconds": 1}),
        (wake, {"after_seconds": 0}),
        (replicate, {"lease_seconds": 599}),
        (replicate, {"boot_seconds": 59}),
    ],
)
def test_no_time_at_all_is_refused(flow: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ParameterTypeError, match="greater than or equal to"):
        flow.validate_parameters(given)

"""The one retry policy: an error says itself whether trying again can help; waits grow, with jitter so that runs part ways."""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from torpor.errors import TorporError


def can_help(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether another attempt can help: only errors that torpor raises with `retryable` say so."""
    del task, run
    return isinstance(state.data, TorporError) and state.data.retryable


# Every task has effects, or reads what others change: nothing is cached, and no result is kept where a key could end up.
ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
POLICY: dict[str, Any] = ONCE | {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": can_help,
}

"""What one host's way to the API is for: ids of one run, and of what it belongs to."""

from __future__ import annotations

import msgspec


class Refused(Exception):
    """This host may not do that. The text is for the control side's log: a word, never a body."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """`run`, `flow`, `deployment`, `queue_id`, `pool_id`: ids as the API writes them; `pool`, `queue`, `worker`: names."""

    run: str
    flow: str
    deployment: str
    pool: str
    pool_id: str
    queue: str
    queue_id: str
    worker: str

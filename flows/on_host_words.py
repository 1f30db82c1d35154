"""What the control side tells the host's end of a worker, and the name by which that tells the flow run."""

from __future__ import annotations

import msgspec

SOCKET = "TORPOR_JOB_SOCKET"  # in the worker's environment, and so in that of its flow run


class Errand(msgspec.Struct, frozen=True):
    """`api`, `password`: the way to Prefect's API through the tunnel and the proxy, for one run; `job`: its name."""

    api: str
    password: str
    pool: str
    queue: str
    worker: str
    job: str

    def __repr__(self) -> str:
        return f"Errand({self.job})"

"""The budget of requests to each host, kept in one place for all workers of a run."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from redaction_core.errors import StorageError
from redaction_core.fetching import BudgetedHosts, HostBudget


class HostsActor:
    """Hands out places at hosts; its clock counts for all workers."""

    def __init__(self, connections: int, rate: float) -> None:
        self._budget = HostBudget(connections=connections, rate=rate)

    def exchange(
        self,
        worker: str,
        wanted: Mapping[str, int],
        returned: Mapping[str, int],
        pauses: Mapping[str, float],
    ) -> dict[str, int]:
        """See `HostBudget.exchange`."""
        return self._budget.exchange(
            worker, wanted=wanted, returned=returned, pauses=pauses, now=time.monotonic()
        )


def start_hosts(connections: int, rate: float) -> Any:  # noqa: ANN401 - Ray's handle
    """Start the actor; it ends with the driver."""
    import ray

    # Takes nothing of the cluster. Revived where its machine dies: the count then begins anew.
    start: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(HostsActor)
    return start.remote(connections, rate)


def open_hosts(actor: Any) -> BudgetedHosts:  # noqa: ANN401 - Ray's handle
    """Open a worker's side; called in its event loop."""
    from ray.exceptions import RayError

    worker = uuid.uuid4().hex

    async def exchange(
        *,
        wanted: Mapping[str, int],
        returned: Mapping[str, int],
        pauses: Mapping[str, float],
    ) -> dict[str, int]:
        try:
            granted: dict[str, int] = await actor.exchange.remote(worker, wanted, returned, pauses)
        except RayError as error:
            raise StorageError("the keeper of turns at hosts does not answer: run again") from error
        return granted

    return BudgetedHosts(exchange)

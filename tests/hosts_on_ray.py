"""Workers on a Ray cluster of their own that ask one host: prints when each was at it, as JSON."""

import asyncio
import json
import sys
import time
from typing import Any

import ray

from jobs._hosts import open_hosts, start_hosts

HELD_S = 0.02


async def _turns(actor: Any, count: int) -> list[tuple[float, float]]:  # noqa: ANN401 - a handle
    times = []

    async def one() -> None:
        await hosts.enter("example.org")
        begun = time.monotonic()
        await asyncio.sleep(HELD_S)
        times.append((begun, time.monotonic()))
        hosts.leave("example.org")

    async with open_hosts(actor) as hosts:
        await asyncio.gather(*(one() for _ in range(count)))
    return times


def work(actor: Any, count: int) -> list[tuple[float, float]]:  # noqa: ANN401 - a handle
    """Take turns, many at once, as a worker of the pool does."""
    return asyncio.run(_turns(actor, count))


def main(workers: int, count: int, connections: int, rate: float) -> None:
    """Print a list of begin and end for every turn of every worker."""
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    actor = start_hosts(connections, rate)
    task: Any = ray.remote(work)
    found = ray.get([task.remote(actor, count) for _ in range(workers)])
    print(json.dumps([turn for turns in found for turn in turns]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), float(sys.argv[4]))

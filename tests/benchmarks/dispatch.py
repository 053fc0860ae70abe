"""Measure what a shard costs besides its images: `python -m tests.benchmarks.dispatch --help`.

A verb that does nothing goes the way of every verb: shards through Ray, attempts and commits
through storage, here a folder. The driver's memory is told as it grows.
"""

import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from jobs._cluster import join_cluster
from jobs._command import say
from jobs._verb import Verb
from redaction_core.commits import Run
from redaction_core.errors import InputError
from redaction_core.plan import PlannedInput, planned, shards
from redaction_core.storage import open_store
from redaction_core.totals import Totals
from tests.benchmarks.planning import SUFFIX, listed, memory

SAID_EVERY = 1000


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """Shards a second of a verb that does nothing."""

    shards: int = 2000
    """Of one input each."""
    workers: int = 2
    """Worker processes."""
    batch: int = 10_000
    """Shards that are given to Ray at once."""


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """The outcome, and the work, of doing nothing."""

    totals: Totals = field(default_factory=Totals)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def run(self, inputs: Sequence[PlannedInput]) -> "Nothing":
        return Nothing(totals=Totals(inputs=len(inputs)))

    def failure(self, item: PlannedInput, error: InputError) -> "Nothing":
        raise NotImplementedError


def open_nothing(_: bool) -> Nothing:  # noqa: FBT001 - as workers call it
    return Nothing()


def main(config: Dispatch) -> int:
    """Return 1 if shards are left undone."""
    join_cluster()
    from jobs import _shards  # only now: Ray reads its environment when it is imported

    _shards.BATCH, _shards.BATCH_OF_A_WORKER = config.batch, 0
    with tempfile.TemporaryDirectory(prefix="dispatch-") as folder:
        store = open_store(str(Path(folder, "out")))
        run = Run(store, "nothing", {})
        run.add_round(shards(planned(listed(0, config.shards), SUFFIX), 1), shard_size=1)
        pool = _shards.size_pool(config.workers, 1, 0)
        verb = Verb(name="nothing", output=store, open_work=open_nothing, tables={})
        pending = list(run.pending())
        before, started, first, since = memory("VmRSS"), time.perf_counter(), 0, 0.0
        for count, _ in enumerate(_shards.run_shards(verb, pool, pending, stuck_after_s=900), 1):
            now = time.perf_counter()
            if not since:
                first, since = count, now
                say(f"the first after {now - started:.1f} s")
            if count % SAID_EVERY == 0:
                grown = (memory("VmRSS") - before) / 2**20
                rate = (count - first) / (now - since)
                say(f"{count:,}: {rate:.0f} shards/s, driver +{grown:.0f} MiB")
        left = sum(1 for _ in run.pending())
        grown = (memory("VmHWM") - before) / 2**20
        verdict = "FAIL" if left else "PASS"
        batches = math.ceil(config.shards / config.batch)
        say(f"{verdict} {left} of {config.shards:,} left, in {batches} batches")
        say(f"driver +{grown:.0f} MiB at most")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Dispatch)))

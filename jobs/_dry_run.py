"""What a run would do, told without doing it."""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from jobs._command import RunFlags, print_result, say
from redaction_core.commits import PLAN_FILE, Run
from redaction_core.errors import Failure, UsageError

if TYPE_CHECKING:
    from jobs._verb import Job


def tell_plan(job: Job, flags: RunFlags) -> None:
    """Print what a run would do; nothing is written."""
    replaces = flags.overwrite and job.outputs.exists(PLAN_FILE)
    run = None if replaces else Run(job.outputs, job.verb, job.config, layout=job.layout)
    count = size = 0
    failures: Counter[Failure] = Counter()
    for item in job.listed(run.planned() if run else ()):
        count += 1
        size += item.size
        failures.update([item.failure] if item.failure else [])
    if not count and (run is None or not run.rounds):
        raise no_inputs(job)
    plan: dict[str, Any] = {
        "verb": job.verb,
        "dry_run": True,
        "inputs": count,
        "bytes": size,
        "shards": math.ceil(count / flags.shard_size),
        "collisions": failures[Failure.NAME_COLLISION],
        "bad_names": failures[Failure.BAD_NAME],
        "unreadable": failures[Failure.UNREADABLE],
        "shards_done": 0,
        "replaces_run": replaces,
    }
    left = count
    if run is not None and run.rounds:
        changes = run.changes(job.listed(run.planned()))
        pending = list(run.pending())
        left = run.inputs_of(pending)
        plan |= {
            "shards": run.shard_count,
            "shards_done": run.shard_count - len(pending),
            "new": changes.new,
            "changed": changes.changed,
            "gone": changes.gone,
        }
        left += changes.new if flags.extend else 0
    workers = flags.workers or max(1, int((os.cpu_count() or 1) / flags.cpus_per_worker))
    # Of this machine, and for images of 224x224: no more than a hint.
    seconds = left * job.guess_s() / workers
    if job.least_s is not None:
        seconds = max(seconds, job.least_s() * left / max(1, count))
    plan["left"] = left
    plan["estimated_seconds"] = round(seconds, 1)
    for name, value in plan.items():
        say(f"{name:>18}  {value}")
    if plan.get("changed"):
        say("a run would be refused, as inputs changed since they were planned")
    print_result(plan)


def no_inputs(job: Job) -> UsageError:
    """Say that there is nothing to do."""
    return UsageError(f"{job.source} holds no inputs")

"""What a run would do, told without doing it."""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from jobs._command import RunFlags, estimate, print_result, say
from redaction_core.commits import PLAN_FILE, Run
from redaction_core.errors import Failure, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs._verb import Job

_PAGE = 1000  # names in an answer of S3


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
    # A guess is of this machine, and for images of 224x224: no more than a hint.
    seconds_of_one = 1 / flags.worker_rate if flags.worker_rate else job.guess_s()
    seconds = left * seconds_of_one / workers
    if job.least_s is not None:
        seconds = max(seconds, job.least_s() * left / max(1, count))
    plan["left"] = left
    plan |= estimate(seconds, workers, flags.worker_price)
    plan |= _requests(job, plan, flags)
    for name, value in plan.items():
        say(f"{name:>18}  {value}")
    if plan.get("changed"):
        say("a run would be refused, as inputs changed since they were planned")
    print_result(plan)


def _requests(job: Job, plan: Mapping[str, Any], flags: RunFlags) -> dict[str, int]:
    """Count what is asked of storage, without retries; deleting costs nothing on S3.

    A shard is written once as a part of the plan. A worker looks for its commit twice and for its
    mark once, reads the part, lists earlier attempts, and writes its mark, a part a table and its
    commit. The end reads each commit three times and each part once. A rerun compares twice with
    all parts of the plan. Listings have up to 1,000 names a page: the inputs, the commits before,
    the parts after.
    Left out is what no run has more of: some ten files, a hundred reads for pictures of a report.
    """
    tables = len(job.shards.tables)
    compares = 0 if "new" not in plan else 2 if flags.extend and plan["new"] else 1
    new = 0 if compares == 1 else plan.get("new", plan["inputs"])
    planned = math.ceil(new / flags.shard_size)
    shards = plan["shards"] + (planned if compares else 0)
    left = shards - plan["shards_done"]
    pages = max(1, compares) * _pages(plan["inputs"]) + (1 + tables) * _pages(shards)
    return {
        "estimated_puts": plan["left"] * job.puts_of_one + planned + left * (2 + tables),
        "estimated_gets": plan["left"] * job.gets_of_one
        + 4 * left
        + (3 + tables + 2 * compares) * shards,
        "estimated_lists": pages + left,
    }


def _pages(names: int) -> int:
    return math.ceil(names / _PAGE)


def no_inputs(job: Job) -> UsageError:
    """Say that there is nothing to do."""
    return UsageError(f"{job.source} holds no inputs")

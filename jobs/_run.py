"""A run from its plan to `_SUCCESS`: list, plan, extend or refuse, run the shards, sum up."""

from __future__ import annotations

import itertools
import math
import os
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from jobs._command import Progress, RunFlags, print_result, say
from redaction_core.commits import Round, Run, remove_run
from redaction_core.errors import Failure, UsageError
from redaction_core.plan import PlannedInput, planned, shards
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jobs._verb import Verb
    from redaction_core.storage import Store

ESTIMATE = (
    "Results are statistical estimates made by a network, "
    "not evidence of who or what was in the pictures."
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One verb with its inputs, ready to run."""

    verb: str
    inputs: Store
    suffix: str
    """Suffix of the outputs."""
    config: Mapping[str, Any]
    """What changes the bytes of the output, as JSON values."""
    shards: Verb
    guess_s: Callable[[], float]
    """Measures roughly how long one input takes on one worker."""

    @property
    def outputs(self) -> Store:
        """Where the run lies."""
        return self.shards.output


def execute(job: Job, flags: RunFlags) -> int:
    """Run a job to its end, or tell its plan; gives the exit code.

    Raises UsageError for refused outputs, StorageError when storage fails.
    """
    started = time.monotonic()
    _refuse_overlap(job.inputs, job.outputs)
    job.outputs.check()
    if flags.dry_run:
        _tell_plan(job, flags)
        return 0
    replaces = flags.overwrite and remove_run(job.outputs)
    if replaces:
        say("removed what the earlier run wrote")
    run = Run(job.outputs, job.verb, job.config, replaces=replaces)
    _plan(job, run, flags)
    _run_pending(job, run, flags)
    totals = _sum_up(run)
    if not run.finished:
        summary = {"verb": job.verb, **_result(totals), "note": ESTIMATE}
        run.finish(summary, {"config": run.config, "plans": run.plan_ids, **_versions()})
    seconds = round(time.monotonic() - started, 1)
    failed = totals.failed / max(1, totals.inputs)
    complete = failed <= flags.max_failure_rate
    print_result(
        {
            "verb": job.verb,
            "status": "complete" if complete else "too_many_failures",
            "output": job.outputs.location,
            **_result(totals),
            "seconds": seconds,
        }
    )
    if not complete:
        say(
            f"error: {totals.failed} of {totals.inputs} inputs failed, more than "
            f"--max-failure-rate {flags.max_failure_rate:g}: see `failure` in "
            f"{job.outputs.location}/{job.shards.table}"
        )
    return 0 if complete else 1


def _plan(job: Job, run: Run, flags: RunFlags) -> None:
    if not run.rounds:
        _add_round(job, run, _listed(job, run), flags)
        return
    changes = run.changes(_listed(job, run))
    changes.refuse_changed()
    say(
        f"going on with {run.inputs} planned inputs; since then {changes.new} are new "
        f"and {changes.gone} gone"
    )
    if not changes.new:
        return
    if flags.extend:
        _add_round(job, run, run.new_inputs(_listed(job, run)), flags)
    else:
        say(f"left out are the {changes.new} new ones: --extend adds them")


def _add_round(job: Job, run: Run, inputs: Iterator[PlannedInput], flags: RunFlags) -> None:
    first = next(inputs, None)
    if first is None and not run.rounds:
        raise _no_files(job)
    before = run.inputs
    if first is not None:
        run.add_round(
            shards(itertools.chain([first], inputs), flags.shard_size),
            shard_size=flags.shard_size,
        )
    say(f"planned {run.inputs - before} inputs, {run.shard_count} shards in all")


def _no_files(job: Job) -> UsageError:
    return UsageError(f"{job.inputs.location} holds no files")


def _listed(job: Job, run: Run | None) -> Iterator[PlannedInput]:
    return planned(job.inputs.list(), job.suffix, run.planned() if run else ())


def _run_pending(job: Job, run: Run, flags: RunFlags) -> None:
    pending = list(run.pending())
    if not pending:
        return
    done = run.shard_count - len(pending)
    if done:
        say(f"{done} of {run.shard_count} shards are done already")
    # Ray takes seconds to import; a finished or refused run needs none of it.
    _prepare_ray()
    from jobs._shards import connect, run_shards, size_pool

    connect()
    sizes = {shard: size for each in run.rounds for shard, size in _shard_sizes(each)}
    progress = Progress(job.verb, sum(sizes[shard.number] for shard in pending))
    pool = size_pool(flags.workers, flags.cpus_per_worker, flags.gpus_per_worker)
    for totals in run_shards(job.shards, pool, pending):
        progress.add(totals)


def _prepare_ray() -> None:
    """Set what Ray reads from the environment when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        # A cluster of our own: Ray would write a token into the home folder, for all later ones.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _sum_up(run: Run) -> Totals:
    """Add up the commits; what Ray returned counts for nothing."""
    totals = Totals()
    for commit in run.commits():
        totals.add(Totals.of_json(commit.totals))
    return totals


def _result(totals: Totals) -> dict[str, Any]:
    return {
        "inputs": totals.inputs,
        "ok": totals.inputs - totals.failed,
        "failed": totals.failed,
        "failures": dict(sorted(totals.failures.items())),
        "means": {name: float(f"{mean:.6g}") for name, mean in totals.means().items()},
    }


def _versions() -> dict[str, Any]:
    names = ("ray", "torch", "numpy", "pillow", "pyarrow")
    return {"versions": {name: version(name) for name in names}, "note": ESTIMATE}


def _tell_plan(job: Job, flags: RunFlags) -> None:
    """Print what a run would do; nothing is written."""
    replaces = flags.overwrite and job.outputs.exists("plan.json")
    run = None if replaces else Run(job.outputs, job.verb, job.config)
    count = size = 0
    failures: Counter[Failure] = Counter()
    for item in _listed(job, run):
        count += 1
        size += item.size
        failures.update([item.failure] if item.failure else [])
    if not count and (run is None or not run.rounds):
        raise _no_files(job)
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
        changes = run.changes(_listed(job, run))
        pending = {shard.number for shard in run.pending()}
        left = sum(
            size for each in run.rounds for shard, size in _shard_sizes(each) if shard in pending
        )
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
    plan["left"] = left
    plan["estimated_seconds"] = round(left * job.guess_s() / workers, 1)
    for name, value in plan.items():
        say(f"{name:>18}  {value}")
    if plan.get("changed"):
        say("a run would be refused, as inputs changed since they were planned")
    print_result(plan)


def _shard_sizes(plan: Round) -> Iterator[tuple[int, int]]:
    """Yield the number and the inputs' count of each shard of a round."""
    left = plan.inputs
    for shard in plan.shards():
        yield shard.number, min(left, plan.shard_size)
        left -= plan.shard_size


def _refuse_overlap(inputs: Store, outputs: Store) -> None:
    one, two = (_comparable(store.location) for store in (inputs, outputs))
    if one.startswith(two) or two.startswith(one):
        raise UsageError(
            f"input {inputs.location} and output {outputs.location} lie in each other: "
            "choose an output elsewhere"
        )


def _comparable(location: str) -> str:
    # Links could hide that two folders are one.
    real = location if "://" in location else os.path.realpath(location)
    return real.rstrip("/") + "/"

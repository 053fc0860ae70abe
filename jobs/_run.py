"""A run from its plan to `_SUCCESS`: list, plan, extend or refuse, run the shards, sum up."""

from __future__ import annotations

import itertools
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from jobs._cluster import join_cluster
from jobs._command import Pace, Progress, RunFlags, print_result, say
from jobs._dry_run import no_inputs, tell_plan
from jobs._verb import Finished, Job, Verb, summed_up
from redaction_core.commits import PLAN_FILE, Run, ShardRef, remove_run
from redaction_core.errors import UsageError
from redaction_core.plan import PlannedInput, shards
from redaction_core.storage import overlap
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def execute(job: Job, flags: RunFlags) -> int:
    """Run a job to its end, or tell its plan; gives the exit code.

    Raises UsageError for refused outputs, StorageError when storage fails.
    """
    started = time.monotonic()
    if overlap(job.source, job.outputs.location):
        raise UsageError(
            f"input {job.source} and output {job.outputs.location} lie in each other: "
            "choose an output elsewhere"
        )
    job.outputs.check()
    if flags.dry_run:
        tell_plan(job, flags)
        return 0
    replaces, inputs = False, None
    if flags.overwrite and job.outputs.exists(PLAN_FILE):
        # Only once it is clear that there is something to put in its place.
        inputs = _some(job)
        replaces = remove_run(job.outputs)
        say("removed what the earlier run wrote")
    run = Run(job.outputs, job.verb, job.config, layout=job.layout, replaces=replaces)
    _plan(job, run, flags, inputs)
    cluster = Cluster(job, flags)
    # A rerun of the same command ends the retries that were begun, and begins no others.
    begun = run.rounds[-1].retries and not run.finished
    if not (_run_pending(job, run, cluster) or begun) and job.retry is not None:
        _add_round(run, job.retry(run), flags, retries=True)
        _run_pending(job, run, cluster)
    summary = _finish(job, run, cluster)
    seconds = round(time.monotonic() - started, 1)
    failed, inputs = summary["failed"], summary["inputs"]
    complete = failed <= flags.max_failure_rate * inputs
    print_result(
        {
            "verb": job.verb,
            "status": "complete" if complete else "too_many_failures",
            "output": job.outputs.location,
            **_closing(job, summary),
            "seconds": seconds,
            "images_per_s_per_worker": cluster.images_per_s_per_worker,
        }
    )
    if not complete:
        say(
            f"error: {failed} of {inputs} inputs failed, more than "
            f"--max-failure-rate {flags.max_failure_rate:g}: see `failure` in "
            f"{job.outputs.location}/{job.failures_table}"
        )
    return 0 if complete else 1


def _closing(job: Job, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the closing line says of a summary: totals, and where all the rest is."""
    told = {name: value for name, value in summary.items() if name not in job.details}
    if job.details:
        told["summary"] = f"{job.outputs.location}/{job.layout.summary}"
    return told


def _finish(job: Job, run: Run, cluster: Cluster) -> Mapping[str, Any]:
    """Give the summary of a finished run, or finish it."""
    if run.finished and not run.doubled():
        told = {"verb": job.verb, "note": job.note}
        return {name: value for name, value in run.summary().items() if name not in told}
    if job.last_pass is None:
        finished = Finished(summary=summed_up(run))
    else:
        finished = job.last_pass(run, cluster)
    summary = {"verb": job.verb, **finished.summary, "note": job.note}
    info = {"config": run.config, "plans": run.plan_ids, **_versions(job)}
    run.finish(summary, info, parts=finished.parts)
    return finished.summary


def _some(job: Job) -> Iterator[PlannedInput]:
    """List the inputs anew; raises UsageError where there are none."""
    inputs = job.listed(())
    first = next(inputs, None)
    if first is None:
        raise no_inputs(job)
    return itertools.chain([first], inputs)


def _plan(
    job: Job, run: Run, flags: RunFlags, inputs: Iterator[PlannedInput] | None = None
) -> None:
    """Plan the first round (of these inputs), or look what has changed since."""
    if not run.rounds:
        _add_round(run, inputs or _some(job), flags)
        return
    changes = run.changes(job.listed(run.planned()))
    changes.refuse_changed()
    say(
        f"going on with {run.inputs} planned inputs; since then {changes.new} are new "
        f"and {changes.gone} gone"
    )
    if not changes.new:
        return
    if flags.extend:
        _add_round(run, run.new_inputs(job.listed(run.planned())), flags)
    else:
        say(f"left out are the {changes.new} new ones: --extend adds them")


def _add_round(
    run: Run, inputs: Iterator[PlannedInput], flags: RunFlags, *, retries: bool = False
) -> None:
    first = next(inputs, None)
    count = 0
    if first is not None:
        known = len(run.rounds)
        run.add_round(
            shards(itertools.chain([first], inputs), flags.shard_size),
            shard_size=flags.shard_size,
            retries=retries,
        )
        count = sum(each.inputs for each in run.rounds[known:])
    what = "inputs to try again" if retries else "inputs"
    say(f"planned {count} {what}, {run.shard_count} shards in all")


def _run_pending(job: Job, run: Run, cluster: Cluster) -> bool:
    """Run the shards that are not done; says whether inputs that had failed were among them."""
    pending = list(run.pending())
    if not pending:
        return False
    done = run.shard_count - len(pending)
    if done:
        say(f"{done} of {run.shard_count} shards are done already")
    progress = Progress(job.verb, run.inputs_of(pending))
    for totals in cluster.run_shards(pending):
        progress.add(totals)
    retried = {each.plan_id for each in run.rounds if each.retries}
    return any(shard.plan_id in retried for shard in pending)


class Cluster:
    """The Ray cluster, joined when it is first needed: a finished or refused run needs none."""

    def __init__(self, job: Job, flags: RunFlags) -> None:
        self._job = job
        self._flags = flags
        self._verb: Verb | None = None
        self.images_per_s_per_worker: float | None = None
        """Of the shards that were run; None where there were none."""

    def run_shards(self, pending: Sequence[ShardRef]) -> Iterator[Totals]:
        """Run shards; yields the totals of each as it is committed."""
        verb = self._joined()
        from jobs._shards import run_shards, size_pool

        flags = self._flags
        pool = size_pool(flags.workers, flags.cpus_per_worker, flags.gpus_per_worker)
        pace = Pace(pool.workers)
        for totals in run_shards(verb, pool, pending, stuck_after_s=flags.stuck_after_s):
            pace.add(totals.inputs)
            yield totals
        self.images_per_s_per_worker = pace.images_per_s and float(f"{pace.images_per_s:.4g}")

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Call a function of an importable module with each item, somewhere on the cluster."""
        left = iter(items)
        for first in left:
            self._joined()
            from jobs._shards import map_tasks

            yield from map_tasks(function, itertools.chain([first], left))

    def _joined(self) -> Verb:
        if self._verb is None:
            join_cluster()
            job = self._job
            self._verb = job.on_cluster(job.shards) if job.on_cluster else job.shards
        return self._verb


def _versions(job: Job) -> dict[str, Any]:
    names = ("ray", "torch", "numpy", "pillow", "pyarrow")
    return {"versions": {name: version(name) for name in names}, "note": job.note}

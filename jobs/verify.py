"""Check an output against its plan: every input a row, every file there, no byte changed."""

from __future__ import annotations

from dataclasses import dataclass

from jobs._command import print_result, run_command, say


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check an output against its plan, and say what is wrong with it.

    Looks at whatever jobs.ingest, jobs.reconstruct or jobs.audit wrote, reads all of it, and
    changes nothing. Exit code 0: all is as it was written; 1: something is not.
    """

    output: str
    """Where the run lies: s3://bucket/prefix, file:///folder or a plain path."""
    most: int = 100
    """Problems that are told one by one; all are counted."""


def verify(config: Verify) -> int:
    """Run the job; gives the exit code."""
    from jobs._cluster import join_cluster
    from redaction_core.commits import Run
    from redaction_core.storage import open_store
    from redaction_core.verification import Checked, check_shard, check_whole, checks_of

    store = open_store(config.output)
    store.check(to_read=True)
    run = Run.read(store)
    say(f"{store.location}: jobs.{run.verb}, {run.inputs} inputs in {run.shard_count} shards")
    join_cluster()
    from jobs._shards import map_tasks

    checked = Checked()
    for each in map_tasks(check_shard, checks_of(run)):
        checked += each
    checked += check_whole(run, checked)
    problems = sorted(checked.problems, key=lambda problem: (problem.where, problem.what))
    for problem in problems[: config.most]:
        say(f"{problem.where} {problem.what}")
    if len(problems) > config.most:
        say(f"and {len(problems) - config.most} more: --most {len(problems)} tells all")
    print_result(
        {
            "verb": "verify",
            "status": "damaged" if problems else "intact",
            "output": store.location,
            "inputs": run.inputs,
            "files": checked.files,
            "bytes": checked.bytes,
            "problems": len(problems),
        }
    )
    return 1 if problems else 0


if __name__ == "__main__":
    run_command(Verify, verify)

"""A run's state, kept beside its output in storage: plan, attempts, commits, success.

    plan.json, plan-0001.json ...             a round of inputs each; written if absent
    plan/<shard>-<sha16>.parquet              the inputs of one shard
    attempts/<plan>-<shard>-<n>               an attempt that has not ended in order
    commits/<plan>-<shard>.json               a shard that is done; written last, if absent
    images/..., metrics/part-<shard>-<sha16>.parquet
    marks/<plan>-<shard>-<sha16>.json         a part that the last pass replaced by a marked copy
    summary.json, run.json, _SUCCESS          written at the end, in this order

Whatever dies, and whoever else runs, a rerun finds the shards without commit and does them again.

shard     one shard, as the worker that does it sees it
parts     Parquet parts: their bytes and their names
marking   what a last pass over the whole run changes in the parts of a shard
rounds    plan files: what was planned together
run       the whole run, as its driver sees it
removal   what --overwrite removes
"""

from redaction_core.commits.layout import IMAGES, PLAN_FILE
from redaction_core.commits.parts import part_bytes, part_key
from redaction_core.commits.removal import remove_run
from redaction_core.commits.rounds import Layout, Round
from redaction_core.commits.run import Run
from redaction_core.commits.shard import (
    Attempt,
    BegunAttempt,
    Commit,
    ShardRef,
    begin_attempt,
    begun_attempts,
    commit_meanwhile,
    commit_shard,
    end_attempt,
    read_commit,
    read_shard,
)

__all__ = [
    "IMAGES",
    "PLAN_FILE",
    "Attempt",
    "BegunAttempt",
    "Commit",
    "Layout",
    "Round",
    "Run",
    "ShardRef",
    "begin_attempt",
    "begun_attempts",
    "commit_meanwhile",
    "commit_shard",
    "end_attempt",
    "part_bytes",
    "part_key",
    "read_commit",
    "read_shard",
    "remove_run",
]

"""A run's state, kept beside its output in storage: plan, attempts, commits, success.

    plan.json, plan-0001.json ...             a round of inputs each; written if absent
    plan/<shard>-<sha16>.parquet              the inputs of one shard
    attempts/<plan>-<shard>-<n>               an attempt that has not ended in order
    commits/<plan>-<shard>.json               a shard that is done; written last, if absent
    images/..., metrics/part-<shard>-<sha16>.parquet
    summary.json, run.json, _SUCCESS          written at the end, in this order

Whatever dies, and whoever else runs, a rerun finds the shards without commit and does them again.

shard     one shard, as the worker that does it sees it
run       the whole run, as its driver sees it
removal   what --overwrite removes
"""

from redaction_core.commits.layout import IMAGES
from redaction_core.commits.removal import remove_run
from redaction_core.commits.run import Changes, Round, Run
from redaction_core.commits.shard import (
    Attempt,
    Commit,
    ShardRef,
    begin_attempt,
    commit_shard,
    end_attempt,
    part_key,
    read_commit,
    read_shard,
)

__all__ = [
    "IMAGES",
    "Attempt",
    "Changes",
    "Commit",
    "Round",
    "Run",
    "ShardRef",
    "begin_attempt",
    "commit_shard",
    "end_attempt",
    "part_key",
    "read_commit",
    "read_shard",
    "remove_run",
]

"""What --overwrite removes: all that a run wrote, and nothing else."""

from collections.abc import Callable, Sequence

from redaction_core.commits.layout import (
    ATTEMPTS,
    IMAGES,
    INFO,
    MARKS,
    PLAN,
    SUCCESS,
    attempt_number,
    companion_key,
    is_mark,
    is_plan_part,
    shard_of_part,
)
from redaction_core.commits.rounds import Round, read_round
from redaction_core.commits.shard import ShardRef, commit_key, read_commit, read_shard
from redaction_core.errors import StorageError
from redaction_core.storage import Store


def remove_run(store: Store) -> bool:
    """Remove what a run wrote and nothing else (--overwrite); False if there is no run.

    plan.json goes last: a removal that was killed can be repeated.
    """
    rounds: list[Round] = []
    while plan := read_round(store, len(rounds)):
        rounds.append(plan)
    if not rounds:
        return False
    # Without these, what is left is a run that is not done, however far the removal gets.
    layout = rounds[0].layout
    store.delete([SUCCESS, layout.summary, INFO, *layout.extras])
    for each in rounds:
        for shard in each.shards():
            _remove_shard(store, shard, layout.companions)
    count = sum(len(each.parts) for each in rounds)
    for table in layout.tables:
        _remove(store, f"{table}/", lambda key: shard_of_part(key) in range(count))
    _remove(store, MARKS, is_mark)
    _remove(store, ATTEMPTS, lambda key: attempt_number(key) > 0)
    store.sweep()
    _remove(store, PLAN, is_plan_part)
    for each in reversed(rounds):  # one by one: a later round without the first would be adopted
        store.delete([each.key])
    return True


def _remove_shard(store: Store, shard: ShardRef, companions: Sequence[str]) -> None:
    try:
        inputs = read_shard(store, shard)
    except StorageError:
        if store.exists(PLAN + shard.part):
            raise
        return  # an earlier removal came this far
    commit = read_commit(store, shard)
    kept = set(commit.unwritten) if commit else set()
    store.delete([commit_key(shard)])
    outputs = [item.output for item in inputs if item.output and item.output not in kept]
    store.delete(IMAGES + output for output in outputs)
    for folder in companions:
        store.delete(companion_key(folder, output) for output in outputs)
    store.delete(commit.parts if commit else ())


def _remove(store: Store, folder: str, is_ours: Callable[[str], bool]) -> None:
    found = store.list(folder, missing_ok=True)
    store.delete(entry.key for entry in found if is_ours(entry.key))

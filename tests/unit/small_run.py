"""The smallest verb: a run of text files, driven and done in this process."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator

from redaction_core.commits import (
    Commit,
    Run,
    ShardRef,
    begin_attempt,
    commit_shard,
    end_attempt,
    part_key,
    read_shard,
)
from redaction_core.plan import planned, shards
from redaction_core.storage import Entry, Store

KEYS = ("a.jpg", "a.jpg.png", "b.jpg", "c/d.png", "c/e f.jpg", "ü.jpg", "z.bad")
CONFIG = {"redact": "pixelate:4", "network": "enhancer"}
SHARD_SIZE = 3


def listing(keys: tuple[str, ...] = KEYS, version: str = "1") -> Iterator[Entry]:
    return (Entry(key=key, size=len(key), version=version) for key in sorted(keys, key=str.encode))


def add_round(run: Run, keys: tuple[str, ...] = KEYS) -> bool:
    now = planned(listing(keys), ".png", run.planned())
    return run.add_round(shards(run.new_inputs(now), SHARD_SIZE), shard_size=SHARD_SIZE)


def do_shard(store: Store, shard: ShardRef, worker: str = "") -> Commit:
    """Do a shard as a verb does: images, part, commit. Inputs named *.bad fail."""
    attempt = begin_attempt(store, shard)
    inputs = read_shard(store, shard)
    good = [item for item in inputs if item.output and not item.key.endswith(".bad")]
    for item in good:
        store.put_if_absent(f"images/{item.output}", item.key.encode())
    data = "\n".join([worker, *(item.key for item in inputs)]).encode()
    part = part_key("metrics", shard.number, data)
    store.put_if_absent(part, data)
    unwritten = tuple(item.output for item in inputs if item.output and item not in good)
    totals = {"inputs": len(inputs)}
    commit = Commit(shard=shard.number, parts=(part,), unwritten=unwritten, totals=totals)
    commit = commit_shard(store, shard, commit)
    end_attempt(store, attempt, committed=True)
    return commit


def do_run(store: Store, keys: tuple[str, ...] = KEYS, worker: str = "") -> Run:
    """Do a run as a driver does, from whatever state it is in."""
    run = Run(store, "reconstruct", CONFIG)
    if not run.rounds:
        add_round(run, keys)
    for shard in run.pending():
        do_shard(store, shard, worker)
    rows = sum(commit.totals["inputs"] for commit in run.commits())
    run.finish({"inputs": rows}, {"version": 1})
    return run


def state(store: Store) -> dict[str, str]:
    """All files by hash; of plan files, all but the time they were written."""
    found = {}
    for entry in store.list(missing_ok=True):
        data = store.read(entry.key).data
        if entry.key.startswith("plan") and entry.key.endswith(".json"):
            data = json.dumps({**json.loads(data), "created": ""}).encode()
        found[entry.key] = hashlib.sha256(data).hexdigest()
    return found


def rows(store: Store, run: Run) -> Counter[str]:
    parts = (part for commit in run.commits() for part in commit.parts)
    return Counter(key for part in parts for key in store.read(part).data.decode().split("\n")[1:])

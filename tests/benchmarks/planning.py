"""Plan up to a billion inputs, and measure: `python -m tests.benchmarks.planning --help`.

Simulated are the listing (synthetic keys, without the time that a server takes) and the output: a
put is hashed and counted, not kept. A part that is read again is made again, which takes longer
than reading it. Commits are made up when they are read. All else is the code that jobs run.
"""

import hashlib
import json
import multiprocessing
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import tyro

from jobs._verb import summed_up
from redaction_core.commits import Run
from redaction_core.commits.layout import COMMITS, PLAN, committed_shard, json_bytes
from redaction_core.commits.parts import plan_part
from redaction_core.errors import ObjectMissingError
from redaction_core.plan import PlannedInput, planned, shards
from redaction_core.storage import Blob, Entry, Store
from redaction_core.totals import Totals

SUFFIX = ".png"
FOLDER = 10_000
TWIN = 5_500
"""In each folder the key of this place is the output name of the one before: that one must fail."""
PART = "metrics/part-{:06d}-0123456789abcdef.parquet"
STRAY = "metrics/part-000000-ffffffffffffffff.parquet"
SAID_EVERY = 10_000_000
ONCE_BYTES = 2**26
"""What Parquet takes, however many shards there are."""
MOST_BYTES_A_SHARD = 1000
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Planning:
    """Keys a second of every step, the highest memory, and whether the plan is always the same."""

    keys: tuple[int, ...] = (100_000, 1_000_000)
    """Numbers of keys, one after the other."""
    shard_size: int = 1000
    """Inputs of a shard."""
    rounds: int = 2
    """How often each is planned."""
    rerun: bool = True
    """List again, too, and compare with the plan; about three times as long as planning."""


def listed(first: int, last: int) -> Iterator[Entry]:
    """List these of the synthetic keys, in their order; versions look like ETags."""
    while first < last:
        end = min(last, first - first % FOLDER + FOLDER)
        folder = f"{first // 100 // FOLDER:05d}/{first // FOLDER % 100:02d}/"
        for n in range(first, end):
            name = f"{n - 1:010d}.jpg.png" if n % FOLDER == TWIN else f"{n:010d}.jpg"
            etag = f"{n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
            yield Entry(key=folder + name, size=20_000 + n * 7919 % 60_000, version=etag)
        first = end


class Simulated(Store):
    """An output that keeps nothing but the run's few JSON files."""

    location = "simulated"
    in_flight = 8

    def __init__(self, keys: int, shard_size: int) -> None:
        self.keys, self.shard_size = keys, shard_size
        self.done = range(0)
        """Shards that look as if they were committed."""
        self.puts = self.put_bytes = self.deleted = 0
        self.digest = 0
        """Of all parts, in whatever order they are written."""
        self._lock = threading.Lock()
        self._files: dict[str, bytes] = {}

    def list(self, prefix: str = "", *, missing_ok: bool = False) -> Iterator[Entry]:
        del missing_ok
        if prefix.startswith(COMMITS):
            return _in_order(prefix + "{:06d}.json", self.done)
        if prefix == "metrics/":
            return _in_order(PART, self.done, *[STRAY][: len(self.done)])
        return (Entry(key=key) for key in sorted(self._files) if key.startswith(prefix))

    def read(self, key: str, *, max_bytes: int | None = None) -> Blob:
        del max_bytes
        if key.startswith(PLAN):
            return Blob(data=self._part(int(key[len(PLAN) :].partition("-")[0])), version="")
        if (shard := committed_shard(key)) in self.done:
            left = min(self.shard_size, self.keys - shard * self.shard_size)
            totals = Totals(inputs=left, sums={"mae": (left / 8, left)})
            commit = {"shard": shard, "parts": [PART.format(shard)], "unwritten": []}
            return Blob(data=json_bytes({**commit, "totals": totals.to_json()}), version="")
        if key not in self._files:
            raise ObjectMissingError(key)
        return Blob(data=self._files[key], version="")

    def _part(self, shard: int) -> bytes:
        first = shard * self.shard_size
        last = min(first + self.shard_size, self.keys)
        # With a neighbour on each side: names collide across the borders of shards, too.
        around = planned(listed(max(first - 1, 0), min(last + 1, self.keys)), SUFFIX)
        return plan_part(list(islice(around, min(first, 1), last - max(first - 1, 0))))

    def put(self, key: str, data: bytes) -> None:
        digest = hashlib.sha256(key.encode() + hashlib.sha256(data).digest()).digest()
        with self._lock:
            self.puts += 1
            self.put_bytes += len(data)
            if key.startswith(PLAN):
                self.digest ^= int.from_bytes(digest)
            else:
                self._files[key] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    def exists(self, key: str) -> bool:
        return key in self._files

    def delete(self, keys: Iterable[str]) -> int:
        for key in keys:
            self.deleted += 1
            self._files.pop(key, None)
        return self.deleted

    def sweep(self) -> None:
        pass

    def check(self, *, to_read: bool = False) -> None:
        pass

    def open(self, key: str) -> BinaryIO:
        raise NotImplementedError

    def entry(self, key: str) -> Entry:
        raise NotImplementedError


def _in_order(name: str, numbers: range, *others: str) -> Iterator[Entry]:
    """List numbered names in the order of their bytes, which is not that of long numbers."""
    start, stop, step = numbers.start, numbers.stop, numbers.step
    few = range(start, min(stop, 1_000_000), step)
    many = range(few[-1] + step if few else start, stop, step)
    names = merge(*(map(name.format, part) for part in (few, many)), others)
    return (Entry(key=key) for key in names)


def memory(name: str) -> int:
    """Read VmRSS or VmHWM (the highest RSS), in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Steps:
    """Seconds and the highest memory of each step, told as they end."""

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self.measured: dict[str, dict[str, float]] = {}
        self.begin()

    def begin(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def end(self, step: str, keys: int | None = None) -> None:
        seconds, cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = memory("VmHWM")
        self.measured[step] = {"seconds": seconds, "cpu_s": cpu_s, "peak": peak}
        print(
            f"  {step:10}{seconds:10.1f} s{cpu_s:10.1f} s of CPU"
            f"{(keys or self.keys) / seconds:14,.0f} keys/s{peak / 2**20:8.0f} MiB",
            flush=True,
        )
        self.begin()

    def told(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Say now and then how far a step is."""
        for count, item in enumerate(items):
            if count and count % SAID_EVERY == 0:
                rate = count / (time.perf_counter() - self._wall)
                rss = memory("VmRSS") / 2**20
                print(f"    {count:,} keys, {rate:,.0f} keys/s, {rss:.0f} MiB", flush=True)
            yield item


def plan_and_finish(keys: int, shard_size: int, *, rerun: bool) -> dict[str, Any]:
    """Go the way of a job's driver, without the shards themselves."""
    store = Simulated(keys, shard_size)
    steps = Steps(keys)
    base = memory("VmRSS")
    some = min(keys, SAID_EVERY)
    for _ in listed(0, some):
        pass
    steps.end("listing", some)
    run = Run(store, "reconstruct", {})
    inputs: Iterator[PlannedInput] = planned(steps.told(listed(0, keys)), SUFFIX)
    run.add_round(shards(inputs, shard_size), shard_size=shard_size)
    steps.end("plan")
    (plan,) = run.rounds
    count = len(plan.parts)
    assert plan.inputs == keys
    assert plan.failures == len(range(TWIN, keys, FOLDER)), "of every two twins one fails"
    result = {"plan_id": plan.plan_id, "digest": f"{store.digest:064x}", "shards": count}
    result |= {"puts": store.puts, "put_bytes": store.put_bytes, "base": base}
    del run, plan
    run = Run(store, "reconstruct", {})
    steps.end("read plan")
    store.done = range(0, count, 2)
    assert sum(1 for _ in run.pending()) == count // 2
    steps.end("pending")
    store.done = range(count)
    summary = summed_up(run)
    assert summary["inputs"] == keys
    steps.end("commits")
    if rerun:
        now = planned(steps.told(listed(0, keys)), SUFFIX, run.planned())
        changes = run.changes(now)
        assert (changes.same, changes.new, changes.changed, changes.gone) == (keys, 0, 0, 0)
        steps.end("rerun")
    run.finish(summary, {})
    assert store.deleted == 1, "the part that no commit names"
    assert run.finished
    steps.end("finish")
    return result | {"steps": steps.measured}


def main(config: Planning) -> int:
    """Return 1 if plans differ, or memory grows by more than the shards' names."""
    missed = 0
    results: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    for keys in config.keys:
        digests = set()
        for number in range(config.rounds):
            print(f"{keys:,} keys, {number + 1} of {config.rounds}", flush=True)
            with ProcessPoolExecutor(1, mp_context=spawn) as child:
                result = child.submit(
                    plan_and_finish, keys, config.shard_size, rerun=config.rerun
                ).result()
            results.append(result)
            digests.add((result["plan_id"], result["digest"]))
            grown = max(step["peak"] for step in result["steps"].values()) - result["base"]
            puts, size = result["puts"], result["put_bytes"]
            print(f"  plan {result['plan_id']}, {puts:,} puts, {size / keys:.1f} bytes a key")
            a_shard = (grown - 2**26) / result["shards"]
            fits = a_shard < MOST_BYTES_A_SHARD
            missed += not fits
            verdict = "PASS" if fits else "FAIL"
            print(
                f"  {verdict} memory: 64 MiB, and {max(a_shard, 0):.0f} bytes a shard", flush=True
            )
        missed += len(digests) > 1
        print(f"{'FAIL' if len(digests) > 1 else 'PASS'} {len(digests)} plan of {keys:,} keys")
    print(json.dumps(results))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Planning)))

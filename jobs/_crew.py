"""How many workers a training has, and what each of them takes of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs._command import say
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The workers of a training."""

    least: int
    most: int
    cpus: int
    """Of each."""
    gpu: bool

    def __str__(self) -> str:
        """Say it for people."""
        least = f"{self.least} to " if self.least < self.most else ""
        workers = f"{least}{self.most} worker{'s' * (self.most > 1)}"
        return f"{workers} of {self.cpus} CPU{'s' * (self.cpus > 1)}" + " and a GPU" * self.gpu


def size_crew(
    machines: Sequence[Mapping[str, float]],
    workers: tuple[int, int] | None,
    cpus: int | None,
    *,
    gpu: bool,
    grows: bool,
) -> Crew:
    """Fill in what was left open: a worker a GPU, or a machine.

    Args:
        machines: what each has, as Ray counts it: CPU, GPU.
        workers: how many there are to be, at least and at most.
        cpus: of each worker.
        gpu: whether each is to have one.
        grows: whether more machines may join.

    Raises:
        UsageError: what there is does not do, and no more can be waited for.

    """
    on = [each for each in machines if each.get("GPU" if gpu else "CPU", 0) >= 1]
    gpus = sum(int(each.get("GPU", 0)) for each in on)
    least, most = workers or ((gpus, gpus) if gpu else (len(on), len(on)))
    if cpus is None:
        # All that there is, but no more than any of the machines can give to its share.
        cores = [int(each.get("CPU", 0)) for each in on] or [1]
        cpus = max(1, min(*cores, sum(cores) // max(1, most)))
    rooms = (
        min(int(each.get("CPU", 0) // cpus), int(each.get("GPU", 0)) if gpu else most)
        for each in machines
    )
    room, least = sum(rooms), max(1, least)
    if room < least:
        who = "a worker" if least == 1 else f"{least} workers"
        what = f"{who} of {cpus} CPU{'s' * (cpus > 1)}" + (" and a GPU" if gpu else "")
        do = "does" if least == 1 else "do"
        if not grows:
            raise UsageError(f"{what} {do} not fit into this machine: ask for less")
        if workers is None:
            raise UsageError(f"{what} {do} not fit into the cluster: ask for less")
        say(f"{what} {do} not fit into the cluster yet: waiting for it to grow")
    return Crew(least=least, most=max(least, most), cpus=cpus, gpu=gpu)

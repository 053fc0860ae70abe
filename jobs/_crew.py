"""How many workers a training has, and what each of them takes of the cluster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jobs._command import say
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SILENT_S: Final = 30.0
_AGAIN_S: Final = 60.0


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


def room_for(machines: Sequence[Mapping[str, float]], cpus: int, *, gpu: bool) -> int:
    """Count the workers that fit into machines, were nothing else there."""
    rooms = (int(each.get("CPU", 0) // cpus) for each in machines)
    gpus = (int(each.get("GPU", 0)) for each in machines)
    return sum(min(pair) for pair in zip(rooms, gpus, strict=True)) if gpu else sum(rooms)


class Waiting:
    """Tells people what a training that has no workers waits for."""

    def __init__(self, crew: Crew) -> None:
        """Start to wait."""
        self._crew = crew
        self._due_s = time.monotonic() + _SILENT_S

    def look(self, machines: Callable[[], Sequence[Mapping[str, float]]], *, up: bool) -> None:
        """Say a line, at times, while workers are not `up`, or their machines have gone."""
        if time.monotonic() < self._due_s:
            return
        crew, room = self._crew, room_for(machines(), self._crew.cpus, gpu=self._crew.gpu)
        short = room < crew.least
        self._due_s = time.monotonic() + (_SILENT_S if up and not short else _AGAIN_S)
        if not up or short:
            others = "" if short else ", unless something else takes it or a disk is full"
            say(f"waiting for {crew}: the cluster has room for {room}{others}")


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
    room, least = room_for(machines, cpus, gpu=gpu), max(1, least)
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

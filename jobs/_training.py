"""Ray Train around a training session: workers, restarts and resizes, but none of its storage.

Ray starts the workers, joins them to a process group, and starts them anew when one of them or its
machine dies, or when there is room for more. What a worker needs to go on lies in the output.
"""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import ray
import ray.train
from ray._raylet import PlacementGroupID
from ray.exceptions import RayError
from ray.train import ControllerError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import ScalingConfig  # ray.train declares its elder
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs._cluster import joins_a_cluster
from jobs._command import say
from jobs._crew import Waiting
from jobs._keeper import (
    STARTED_ANEW,
    STARTS,
    Keeper,
    News,
    Verdict,
    describe_epoch,
    describe_progress,
)
from jobs._telemetry import TrainTelemetry, WorkerTelemetry
from redaction_core.errors import RedactionCoreError
from redaction_core.storage import open_store
from redaction_core.training.output import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobs._crew import Crew
    from redaction_core.training.batches import Batch
    from redaction_core.training.session import Session

_LOG: Final = logging.getLogger(__name__)
_POLL_S: Final = 0.5
_SAY_EVERY_S: Final = 2.0
_RESIZE_S: Final = 30.0
_COLLECTIVE_S: Final = 1200
"""Longer than any worker waits for storage; dead peers are noticed by Ray, long before."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
TRACE: Final = "REDACTION_TRAINING_TRACE"
"""Environment variable: a folder in which each worker notes the samples it has learnt from."""


def machines() -> list[dict[str, float]]:
    """Give what each machine of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def has_gpus() -> bool:
    """Say whether the cluster has any."""
    return ray.cluster_resources().get("GPU", 0) >= 1  # type: ignore[no-untyped-call, no-any-return]


def train_on_cluster(session: Session, crew: Crew) -> None:
    """Train to the end, and tell the progress on stderr.

    Raises what a worker raised on purpose; RuntimeError, with the worker's stack trace, for a bug.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Takes nothing of the cluster, and lives where the driver does: no other machine's death
    # silences it.
    start: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Keeper)
    keeper = start.options(scheduling_strategy=here).remote()
    with tempfile.TemporaryDirectory(prefix="redaction-train-", ignore_cleanup_errors=True) as own:
        fit = _Fit(_trainer(session, crew, keeper, own))
        fit.start()
        listener, waiting, controllers, in_a_row = _Listener(), Waiting(crew), 1, 1
        while True:
            ended = fit.ended.wait(_POLL_S)
            news: News = ray.get(keeper.hear.remote())
            listener.hear(news)
            # On this machine alone, workers have their room, however long they take to start.
            if joins_a_cluster():
                waiting.look(machines, up=news.up)
            if news.verdict is not None:
                raise news.verdict.error()
            if news.finished:
                return
            if news.progress is not None:
                in_a_row = 1
            if ended and isinstance(fit.error, RayError | ControllerError):
                # Ray Train's controller ends with its process, or where workers that are being
                # started fail in a way that it does not know, and nobody starts it anew.
                reason = " ".join(str(fit.error).split())[-300:]
                if in_a_row == STARTS:
                    raise RedactionCoreError(
                        f"given up: the workers could not be started {STARTS} times ({reason}); is "
                        "a machine short of memory? --resume goes on from the last checkpoint"
                    ) from fit.error
                controllers, in_a_row = controllers + 1, in_a_row + 1
                give_back_room()
                say(f"what starts the workers failed, and is started anew ({reason})")
                fit = _Fit(_trainer(session, crew, keeper, f"{own}/{controllers}"))
                fit.start()
            elif ended and fit.error is None and open_store(session.output).exists(SUCCESS):
                return  # the keeper died of what it was told last
            elif ended:
                raise RuntimeError("Ray Train ended before the training did") from fit.error


def give_back_room() -> None:
    """Remove this job's placement groups: of a controller that ends as it starts, nobody does.

    A job has none but those of Ray Train, and the last bytes of their ids are its own.
    """
    job = ray.get_runtime_context().get_job_id()
    for group, known in ray.util.placement_group_table().items():
        if group.endswith(job) and known["state"] != "REMOVED":
            found = PlacementGroup(PlacementGroupID(bytes.fromhex(group)))
            ray.util.remove_placement_group(found)


class _Listener:
    """Tells people and metrics what the keeper has heard."""

    def __init__(self) -> None:
        self._said_s = 0.0
        self._telemetry = TrainTelemetry()

    def hear(self, news: News) -> None:
        for event in news.events:
            say(event["say"] if "say" in event else describe_epoch(**event))
            if event.get("say") == STARTED_ANEW:
                self._telemetry.restarted()
        if news.progress is None:
            return
        self._telemetry.progress(news.progress)
        if time.monotonic() - self._said_s >= _SAY_EVERY_S:
            self._said_s = time.monotonic()
            say(describe_progress(news.progress))


class _Fit(threading.Thread):
    """Ray Train's own loop, beside the one that listens: it ends with the process."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="fit", daemon=True)
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self._trainer = trainer

    def run(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - told by the loop that listens
            self.error = error
        self.ended.set()


def _trainer(session: Session, crew: Crew, keeper: Any, folder: str) -> TorchTrainer:  # noqa: ANN401 - Ray's handle
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    resources = {"CPU": float(crew.cpus)} | ({"GPU": 1.0} if crew.gpu else {})
    elastic = crew.least < crew.most
    return TorchTrainer(
        _work,
        train_loop_config={"session": session, "keeper": keeper, "crew": crew},
        torch_config=TorchConfig(backend="nccl" if crew.gpu else "gloo", timeout_s=_COLLECTIVE_S),
        scaling_config=ScalingConfig(
            num_workers=(crew.least, crew.most) if elastic else crew.most,
            use_gpu=crew.gpu,
            resources_per_worker=resources,
            # A resize costs what was learnt since the last checkpoint, and a start of all workers.
            elastic_resize_monitor_interval_s=max(_RESIZE_S, 2 * session.checkpoint_every_s),
        ),
        run_config=ray.train.RunConfig(
            name="train",
            # Ray wants a place; nothing that matters is there.
            storage_path=folder,
            failure_config=ray.train.FailureConfig(max_failures=-1),
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """Be one worker: what Ray Train calls in every one of them."""
    import torch

    session: Session = config["session"]
    crew: Crew = config["crew"]
    keeper = config["keeper"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    lost = sum(not each["Alive"] for each in ray.nodes())  # type: ignore[no-untyped-call]
    if not ray.get(keeper.start.remote(rank, lost=lost)):
        return
    torch.set_num_threads(crew.cpus)
    _keep_memory()
    telemetry = WorkerTelemetry("train", gpu=crew.gpu)
    _LOG.info("worker started", extra={"verb": "train", "rank": rank, "workers": world})

    try:
        with telemetry.exporting():
            _train(session, rank, world, partial(_tell, keeper))
    except Exception as error:
        verdict = Verdict.of(error)
        # What a worker sees of a peer's death is no bug: Ray starts all of them anew.
        final = world == 1 or verdict.trace is None or not _may_be_a_peers(error)
        ray.get(keeper.fail.remote(verdict, final=final))
        raise


def _keep_memory() -> None:
    """Let glibc keep what a step has freed for the next one, which needs it again.

    Given back to the system and taken anew, page by page, it costs 5 to 7 % of a step on a CPU.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _train(
    session: Session, rank: int, world: int, tell: Callable[[Mapping[str, Any]], None]
) -> None:
    from redaction_core.training.group import Group
    from redaction_core.training.session import run_session

    group = Group(rank=rank, world=world, device=ray.train.torch.get_device())
    if trace := os.environ.get(TRACE):
        with _Trace(Path(trace), rank) as noted:
            run_session(session, group, tell=tell, seen=noted)
    else:
        run_session(session, group, tell=tell)


class _Trace:
    """Notes, a line a sample, what a worker has learnt from: step and name."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{time.time_ns()}-{rank}.txt").open("w", buffering=1)

    def __call__(self, batch: Batch) -> None:
        self._file.write("".join(f"{batch.step} {key}\n" for key in batch.keys))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _tell(keeper: Any, news: Mapping[str, Any]) -> None:  # noqa: ANN401 - Ray's handle
    # Nobody waits for it: news are of use, but no more than that.
    keeper.tell.remote(dict(news))


def _may_be_a_peers(error: Exception) -> bool:
    """Whether another worker's end may have caused this error: torch gives it no class.

    Once one worker has died, Ray also ends the process group of those that are still at work.
    """
    import torch

    return isinstance(error, RuntimeError | RayError) or not torch.distributed.is_initialized()

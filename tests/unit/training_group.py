"""Trainings in this process, and in several that average their gradients."""

import json
import multiprocessing
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor
from torch import distributed as dist

from redaction_core.checkpoints import load_model
from redaction_core.storage import open_store
from redaction_core.training.batches import Batch, BatchLoader
from redaction_core.training.group import Group
from redaction_core.training.history import History
from redaction_core.training.output import MODEL, Data, describe, digest
from redaction_core.training.recipe import Recipe, Source
from redaction_core.training.samples import read_all, read_samples
from redaction_core.training.session import Session, run_session

ARCHITECTURES = {"enhancer": {"width": 8, "blocks": 1}, "redacto": {"width": 8, "blocks": 1}}
REDACTIONS = {
    "enhancer": ("pixelate:4", "pixelate:2:nearest"),
    "enhancer-baseline": ("pixelate:4:nearest",),
    "redacto": ("box:0.05-0.2@random",),
    "redacto-baseline": ("box:4x4@center",),
}


def session_of(
    data: str,
    output: Path,
    network: str = "enhancer",
    starts_from: str | None = None,
    **changes: Any,  # noqa: ANN401 - any field
) -> Session:
    """Give a short training: two epochs of three steps and a rest."""
    found = Recipe(
        network=network,
        architecture=ARCHITECTURES.get(network, {}),
        sources=(Source(location=data),),
        redactions=REDACTIONS[network],
        crop=16,
        batch_size=7,
        epochs=2,
        ema_decay=0.5,
        init=load_model(starts_from).sha256 if starts_from else None,
    )
    own = {key: changes.pop(key) for key in list(changes) if key in Session.__dataclass_fields__}
    recipe = replace(found, **changes)
    samples = read_all(source.location for source in recipe.sources)
    data_sets = [Data.of(each) for each in samples]
    given: dict[str, Any] = {
        "recipe": recipe,
        "samples": samples,
        "run": digest(recipe, data_sets),
        "output": str(output),
        "init": starts_from,
        "cache_dir": str(output.parent / "cache"),
    }
    return Session(**(given | own))


def note_run(session: Session) -> None:
    """Write run.json, as the command does."""
    data = [Data.of(each) for each in session.samples]
    open_store(session.output).put("run.json", json.dumps(describe(session.recipe, data)).encode())


class Killed(BaseException):
    """Ends a training as a kill would: nothing handles it."""


class Told:
    """What a training tells, and which samples it has seen; may kill it after a step.

    It does so once the checkpoint of step `saved` is stored, which is done in the background.
    """

    def __init__(self, kill_at: int | None = None, saved: int = 0) -> None:
        self._saved = saved
        self.news: list[Mapping[str, Any]] = []
        self.seen: list[tuple[int, str]] = []
        self._kill_at = kill_at

    def tell(self, news: Mapping[str, Any]) -> None:
        self.news.append(news)

    def note(self, batch: Batch) -> None:
        self.seen += [(batch.step, key) for key in batch.keys]
        if batch.step + 1 == self._kill_at:
            ends = time.monotonic() + 60
            while self._stored < self._saved and time.monotonic() < ends:
                time.sleep(0.01)
            raise Killed

    @property
    def _stored(self) -> int:
        return max((news["saved"] for news in self.news if "saved" in news), default=0)

    @property
    def lines(self) -> list[str]:
        return [news["say"] for news in self.news if "say" in news]

    @property
    def losses(self) -> list[float]:
        return [news["loss"] for news in self.news if "loss" in news]


def run(
    session: Session,
    kill_at: int | None = None,
    saved: int = 0,
    group: Group | None = None,
) -> Told:
    """Train in this process; to its end, or until it is killed after a step."""
    told = Told(kill_at, saved)
    try:
        run_session(session, group or Group(), tell=told.tell, seen=told.note)
    except Killed:
        assert kill_at is not None
    return told


def run_group(session: Session, world: int, folder: Path) -> list[Told]:
    """Train in several processes; gives what each of them told."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_member, args=(session, rank, world, folder))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = []
    for rank in range(world):
        content = json.loads((folder / f"{rank}.json").read_bytes())
        told = Told()
        told.news, told.seen = content["news"], [tuple(each) for each in content["seen"]]
        found.append(told)
    return found


def _member(session: Session, rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )

    told = Told()
    group = Group(rank=rank, world=world)
    run_session(session, group, tell=told.tell, seen=told.note)
    content = {"news": told.news, "seen": told.seen}
    (folder / f"{rank}.json").write_text(json.dumps(content))
    dist.destroy_process_group()


def weights(output: Path) -> dict[str, Tensor]:
    """Give all tensors of the last checkpoint."""
    *_, last = sorted((output / "checkpoints").glob("*.safetensors"))
    return load(last.read_bytes())


def model_bytes(output: Path) -> bytes:
    """Give the weights of the model directory."""
    return (output / MODEL / "model.safetensors").read_bytes()


def files(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def history_of(output: Path) -> History:
    return History.of_json(json.loads((output / "history.json").read_bytes()))


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return (
        model_bytes(one) == model_bytes(other)
        and first.keys() == second.keys()
        and all(torch.equal(first[key], second[key]) for key in first)
    )


def expected_samples(session: Session) -> list[tuple[int, str]]:
    samples = [read_samples(source.location) for source in session.recipe.sources]
    with BatchLoader(session.recipe, samples) as loader:
        return [(batch.step, key) for batch in loader.batches() for key in batch.keys]

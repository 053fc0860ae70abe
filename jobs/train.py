"""Train a network on data sets that jobs.ingest wrote, on as many workers as there are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from jobs._command import estimate, print_result, refuse_odd_rates, run_command, say
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs._crew import Crew
    from redaction_core.storage import Store
    from redaction_core.training.recipe import Precision, Recipe


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network on data sets that jobs.ingest wrote; the model lies in OUTPUT/model.

    Locations are s3://bucket/prefix, file:///folder or a plain path; endpoint and credentials of
    S3 come from the standard AWS environment. With --resume, the same command goes on where it was
    interrupted, at the exact step.
    """

    network: Literal["enhancer", "redacto", "enhancer-baseline", "redacto-baseline"]
    """Network: enhancers undo pixelation and blur, redactos fill hidden pixels."""
    data: tuple[str, ...]
    """Data sets that jobs.ingest wrote."""
    output: str
    """Where to write."""
    repeats: tuple[int, ...] = ()
    """How often an epoch has each image, a number a data set; default: once."""
    redact: tuple[str, ...] = ()
    """What to undo, drawn anew for each batch: pixelate:4=3 (with a weight), pixelate:2-16:nearest
    (with a range), blur:1-4, box:4x4@center, box:0.01-0.25@random, freeform:0.1-0.4@random,
    pixels:0.5@random; default: a mixture for each network, which --dry-run
    shows."""
    scale: tuple[str, ...] = ("1",)
    """Images are shrunk by one of these, drawn for each: 0.5, 0.3-1 (a range), with =WEIGHT."""
    crop: int = 96
    """Pixels a side of what is seen of an image; smaller images are seen whole."""
    workers: str | None = None
    """Workers: N, or MIN:MAX to go on with what the cluster has; default: one a GPU or machine."""
    cpus_per_worker: int | None = None
    """Processor cores of a worker; default: its share of the machine."""
    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; default: gpu where the cluster has any."""
    epochs: int = 10
    """Times that the data is gone through."""
    batch_size: int = 16
    """Samples of a step, over all workers."""
    loss: Literal["mae", "mse", "laplacian", "balanced"] | None = None
    """Error that is made small; laplacian: as published, weighted by detail; balanced: mse, and its
    logarithm; default: mae for enhancers, balanced for redacto, mse for its baseline."""
    learn: Literal["all", "scale"] = "all"
    """What to learn; scale: how far the estimate may be off, and the estimate stays as it is."""
    optimiser: Literal["muon", "adamw"] = "muon"
    """What moves the weights; muon gets further than adamw in as many steps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the network computes in; auto: bfloat16 on GPUs, and on processors that gain from it."""
    learning_rate: float | None = None
    """Learning rate at its highest; default: 4e-4 for enhancer, 2e-3 for redacto,
    1e-3 for the baselines."""
    warmup: float = 0.02
    """Share of the steps during which the learning rate rises; then it falls."""
    weight_decay: float = 1e-4
    """Pull of the weights towards zero."""
    clip_norm: float = 1.0
    """Longest gradient."""
    ema_decay: float = 0.999
    """Decay of the running mean of the weights, which is what is kept."""
    architecture: tuple[str, ...] = ()
    """Sizes of the network, such as width=32 blocks=4; default: as its class has them."""
    init: str | None = None
    """Model directory whose weights training starts from."""
    gray_share: float = 0.0
    """Share of colour images that are seen in gray; enhancers see all in gray."""
    val_images: int = 256
    """At most so many images of each data set's validation split are measured after an epoch."""
    patience: int = 0
    """Epochs without a lower validation loss after which training stops; 0: it does not."""
    seed: int = 0
    """Seed of all that is random."""
    checkpoint_every_s: float = 60
    """Seconds between checkpoints: what a killed worker may cost."""
    cache_gib: float | None = None
    """Space for decoded images on each machine; default: half of what is free."""
    cache_dir: str | None = None
    """Folder for decoded images on each machine; default: below the temporary one."""
    resume: bool = False
    """Go on with the training in the output, if there is one."""
    overwrite: bool = False
    """Remove the training in the output, and start anew."""
    dry_run: bool = False
    """Print the plan, and write nothing."""
    worker_rate: float | None = None
    """For --dry-run: images_per_s of an earlier training, for each of its workers."""
    worker_price: float | None = None
    """For --dry-run: what a worker costs an hour, in any currency."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        if not self.data:
            raise UsageError("--data names no data set")
        if self.repeats and len(self.repeats) != len(self.data):
            raise UsageError("--repeats has a number for each data set of --data")
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume goes on with a training, --overwrite replaces it: choose one"
            )
        worker_range(self.workers)
        refuse_odd_rates(self.worker_rate, self.worker_price)
        if self.cpus_per_worker is not None and self.cpus_per_worker < 1:
            raise UsageError(f"--cpus-per-worker {self.cpus_per_worker}: at least 1")
        # Written so that neither infinity nor "nan" passes.
        if not 0 <= self.checkpoint_every_s < math.inf:
            raise UsageError(f"--checkpoint-every-s {self.checkpoint_every_s}: seconds, at least 0")
        if self.cache_gib is not None and not 0 < self.cache_gib < math.inf:
            raise UsageError(f"--cache-gib {self.cache_gib}: above 0")


def train(config: Train) -> int:
    """Run the job; gives the exit code."""
    from jobs._recipe import check_fit, tell_plan
    from redaction_core.storage import open_store, overlap
    from redaction_core.training import output
    from redaction_core.training.samples import read_all
    from redaction_core.training.session import Session

    store = open_store(config.output)
    for source in config.data:
        if overlap(open_store(source).location, store.location):
            raise UsageError(
                f"data set {open_store(source).location} and output {store.location} lie in each "
                "other: choose an output elsewhere"
            )
    if config.init and config.overwrite:
        init = open_store(config.init).location
        if overlap(init, store.location):
            raise UsageError(
                f"--overwrite would remove the model of --init, {init}: choose another output"
            )
    store.check()
    earlier = output.read_run(store)
    if earlier is not None and not (config.resume or config.overwrite or config.dry_run):
        raise UsageError(
            f"{store.location} holds a training: --resume goes on with it, --overwrite replaces it"
        )
    kept = earlier if not config.overwrite else None
    recipe = _recipe(config, _start(config, kept), _precision(config, kept))
    samples = read_all(source.location for source in recipe.sources)
    data = [output.Data.of(each) for each in samples]
    check_fit(recipe, data)
    run = output.describe(recipe, data)
    if kept is not None:
        output.refuse_other(store, kept, run)
    if config.dry_run:
        cost = partial(_cost, config)
        tell_plan(
            recipe, data, store, earlier, cost, overwrite=config.overwrite, resume=config.resume
        )
        return 0
    if kept is not None and store.exists(output.SUCCESS):
        say("this training is finished already")
        print_result(_result(store, recipe))
        return 0
    crew = _join(config)
    say(f"starting {crew}")
    if earlier is not None and config.overwrite:
        output.remove_training(store)
        say("removed what the earlier training wrote")
    output.begin(store, run if kept is None else kept)
    session = Session(
        recipe=recipe,
        samples=samples,
        run=run["run"],
        output=store.location,
        # Absolute: workers may start in another folder.
        init=open_store(config.init).location if config.init else None,
        checkpoint_every_s=config.checkpoint_every_s,
        cache_dir=str(Path(config.cache_dir).absolute()) if config.cache_dir else None,
        cache_bytes=int(config.cache_gib * 2**30) if config.cache_gib else None,
    )
    from jobs._training import train_on_cluster

    train_on_cluster(session, crew)
    print_result(_result(store, recipe))
    return 0


def _cost(config: Train, samples: int) -> dict[str, Any]:
    """Estimate how long it takes to train on so many samples, if the rate of a worker is given."""
    if config.worker_rate is None:
        return {}
    _, workers = worker_range(config.workers) or (1, 1)
    return estimate(samples / config.worker_rate / workers, workers, config.worker_price)


def worker_range(text: str | None) -> tuple[int, int] | None:
    """Read N or MIN:MAX; raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise UsageError(f"--workers {text}: write N or MIN:MAX, at least 1")
    return least, most


def _join(config: Train) -> Crew:
    from jobs._cluster import join_cluster, joins_a_cluster
    from jobs._crew import size_crew

    join_cluster()
    from jobs._training import machines

    return size_crew(
        machines(),
        worker_range(config.workers),
        config.cpus_per_worker,
        gpu=_on_gpus(config),
        grows=joins_a_cluster(),
    )


def _on_gpus(config: Train) -> bool:
    """Say where workers will compute; a cluster that is up already is asked."""
    import torch

    from jobs._cluster import join_cluster, joins_a_cluster

    if config.device is not None:
        return config.device == "gpu"
    if not joins_a_cluster():
        return torch.cuda.is_available()
    join_cluster()
    from jobs._training import has_gpus

    return has_gpus()


def _precision(config: Train, earlier: Mapping[str, Any] | None) -> Precision:
    """Choose what to compute in; a training that goes on keeps its own."""
    import torch

    from redaction_core.inference import best_precision

    if config.precision != "auto":
        return config.precision
    if earlier is not None and (kept := earlier["recipe"].get("precision")):
        return cast("Precision", kept)
    # A handful of channels learn less from numbers of eight bits.
    if config.network == "redacto-baseline":
        return "float32"
    on_gpus = _on_gpus(config)
    if on_gpus and not torch.cuda.is_available():
        return "bfloat16"  # the cluster's GPUs cannot be asked from here
    best = best_precision(torch.device("cuda" if on_gpus else "cpu"))
    return "bfloat16" if best == torch.bfloat16 else "float32"


def _start(config: Train, earlier: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Give hash and architecture of the model of --init, which a training that goes on knows."""
    from redaction_core.checkpoints import load_model
    from redaction_core.errors import CheckpointError

    if config.init is None:
        return {"init": None, "architecture": None}
    try:
        model = load_model(config.init, expected=config.network)
    except CheckpointError as error:
        if earlier is None or earlier["recipe"].get("init") is None:
            raise
        say(f"going on without the model of --init, as the checkpoint has its own weights: {error}")
        return {name: earlier["recipe"][name] for name in ("init", "architecture")}
    return {"init": model.sha256, "architecture": model.config["architecture"]}


def _recipe(config: Train, start: Mapping[str, Any], precision: Precision) -> Recipe:
    from redaction_core.mixture import RedactionMixture, ScaleMixture
    from redaction_core.storage import open_store
    from redaction_core.training import defaults
    from redaction_core.training.recipe import Recipe, Source

    redactions = config.redact or defaults.REDACTIONS[config.network]
    defaults.check_redactions(config.network, RedactionMixture.parse(redactions))
    ScaleMixture.parse(config.scale)
    return Recipe(
        network=config.network,
        architecture=defaults.architecture_of(
            config.network, config.architecture, start["architecture"]
        ),
        init=start["init"],
        sources=tuple(
            Source(location=open_store(location).location, repeats=repeats)
            for location, repeats in zip(
                config.data, config.repeats or (1,) * len(config.data), strict=True
            )
        ),
        redactions=redactions,
        scales=config.scale,
        crop=config.crop,
        batch_size=config.batch_size,
        epochs=config.epochs,
        loss=config.loss or defaults.LOSSES[config.network],
        learn=config.learn,
        optimiser=config.optimiser,
        learning_rate=(
            defaults.LEARNING_RATES[config.network]
            if config.learning_rate is None
            else config.learning_rate
        ),
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        precision=precision,
        gray_share=config.gray_share,
        val_images=config.val_images,
        patience=config.patience,
        seed=config.seed,
    )


def _result(store: Store, recipe: Recipe) -> dict[str, Any]:
    """Give the closing line of a finished training."""
    import json

    from redaction_core.training.history import HISTORY, History
    from redaction_core.training.output import MODEL

    try:
        history = History.of_json(json.loads(store.read(HISTORY).data))
        last = history.epochs[-1]
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{HISTORY} in {store.location} is damaged: --overwrite starts anew"
        ) from error
    best = history.best or last
    return {
        "verb": "train",
        "status": "complete",
        "output": store.location,
        "network": recipe.network,
        "epochs": last.epoch,
        "steps": last.step,
        "best_epoch": best.epoch,
        "train_loss": last.train_loss,
        # Without what is in the model's config: it takes kilobytes.
        "validation": {name: best.val[name] for name in best.val if name != "calibration"},
        "images_per_s": float(f"{last.images_per_s:.4g}"),
        "seconds": round(sum(each.seconds for each in history.epochs), 1),
        "model": f"{store.location}/{MODEL.rstrip('/')}",
    }


if __name__ == "__main__":
    run_command(Train, train)

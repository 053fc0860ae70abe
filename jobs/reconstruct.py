"""Reconstruct a whole folder or bucket of redacted images, with per-image error metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jobs._command import NetworkFlags, run_command
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from jobs._verb import Cluster, Finished
    from redaction_core.checkpoints import Model
    from redaction_core.commits import Run
    from redaction_core.loading import Task
    from redaction_core.redaction import Redaction

TRANSFORM_VERSION = 3
"""Counts changes of the code that change the bytes of outputs from the same inputs."""
_PLACES = ("input", "originals", "masks")


@dataclass(frozen=True, kw_only=True)
class Reconstruct(NetworkFlags):
    """Reconstruct redacted images, measure the errors, and write both to the output.

    A result is a statistical estimate, not evidence of who or what was in the picture. Locations
    are s3://bucket/prefix, file:///folder or a plain path; endpoint and credentials of S3 come
    from the standard AWS environment. The same command again goes on where it was interrupted.
    """

    input: str
    """Folder or prefix of the images: all files below it, at any depth; or a data set that ingest
    wrote."""
    network: Literal["enhancer", "redacto", "enhancer-baseline", "redacto-baseline"] | None = None
    """Network; default: redacto with --masks or a --redact that hides pixels, else enhancer."""
    model: str | None = None
    """Model directory; default: the weights that come with the package."""
    originals: str | None = None
    """Clean images of the same relative paths, with any image suffix: errors are measured."""
    masks: str | None = None
    """Masks of the same relative paths, with any image suffix: non-zero hides the pixel."""
    redact: str | None = None
    """The input is clean: redact it (pixelate:4, pixelate:4:nearest, blur:2, box:16x16@center,
    box:0.02@random, freeform:0.2@random, pixels:0.5@random), reconstruct, and measure against
    it."""
    block_size: Literal["auto"] | int = "auto"
    """Pixels a side of the blocks of pixelated inputs; auto: found in each image."""
    block_value: Literal["mean", "nearest"] = "mean"
    """What the blocks of pixelated inputs hold: the mean, or the pixel in their middle."""
    blur_sigma: float | None = None
    """The inputs are blurred by a Gaussian of this standard deviation in pixels, 0.5 to 8."""
    self_ensemble: bool = False
    """Fill the holes of the mirror image too, and take the mean: less error, twice the time."""
    project: bool = False
    """Put what the blocks fix back into results of enhancer-baseline; enhancer does so itself."""
    uncertainty: bool = False
    """Keep a map beside each result: uncertainty/NAME.png holds half the width of each pixel's 90 %
    interval, in levels of 8 bits."""
    format: Literal["png", "webp", "jpeg"] = "png"
    """Format of the outputs; png and webp are lossless."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        super().__post_init__()
        if self.blur_sigma is not None and (self.redact is not None or self.masks is not None):
            raise UsageError(
                "--blur-sigma is for inputs that are blurred: "
                "leave it out with --redact and --masks"
            )
        if self.redact is not None and (self.masks is not None or self.originals is not None):
            raise UsageError(
                "--redact takes the inputs as originals: leave out --masks, --originals"
            )
        pixelated = all(flag is None for flag in (self.redact, self.masks, self.blur_sigma))
        if not pixelated and (self.block_size, self.block_value) != ("auto", "mean"):
            raise UsageError(
                "--block-size and --block-value are for inputs that are pixelated: "
                "leave them out with --redact, --masks and --blur-sigma"
            )


def reconstruct(config: Reconstruct) -> int:
    """Run the job; gives the exit code."""
    from jobs._run import execute
    from jobs._verb import Job, Verb
    from redaction_core.checkpoints import load_model, shipped
    from redaction_core.commits import Layout
    from redaction_core.data_set_images import open_inputs
    from redaction_core.images import SUFFIXES
    from redaction_core.inference import undoes_blur
    from redaction_core.loading import Task
    from redaction_core.plan import planned
    from redaction_core.reconstruction import UNCERTAINTY, open_reconstruction
    from redaction_core.redaction import parse
    from redaction_core.report.assembly import BLIND, REPORT
    from redaction_core.schemas import METRICS
    from redaction_core.storage import open_store
    from redaction_core.uncertainty import calibration_of

    redaction = parse(config.redact) if config.redact else None
    network = _choose_network(config, redaction)
    model = load_model(config.model or shipped(network), expected=network)
    outputs = open_store(config.output)
    task = Task(
        inputs=open_inputs(config.input),
        outputs=outputs,
        network=network,
        # Absolute: workers may start in another folder.
        model=open_store(config.model).location if config.model else None,
        originals=open_store(config.originals) if config.originals else None,
        masks=open_store(config.masks) if config.masks else None,
        redaction=redaction,
        block_size=None if config.block_size == "auto" else config.block_size,
        nearest=config.block_value == "nearest",
        blur_sigma=config.blur_sigma,
        self_ensemble=config.self_ensemble,
        project=config.project,
        uncertainty=config.uncertainty,
        format=config.format,
        seed=config.seed,
        max_pixels=config.max_pixels,
        max_bytes=config.max_bytes,
    )
    if task.blur is not None and not undoes_blur(model):
        place = config.model or "that come with the package"
        raise UsageError(
            f"the weights of {network} {place} were not trained for blur: "
            "name a --model that undoes blur"
        )
    if config.uncertainty and calibration_of(model) is None:
        place = config.model or "that come with the package"
        raise UsageError(
            f"--uncertainty: the weights of {network} {place} say nothing of how far they may be "
            "off: leave it out, or name another --model"
        )
    for beside in (task.originals, task.masks):
        if beside is not None:
            beside.check(to_read=True)
    companions = (UNCERTAINTY,) if config.uncertainty else ()
    what_changes_bytes = _what_changes_bytes(config, task, model)
    task = replace(task, description=_description(model, what_changes_bytes))
    open_work = partial(
        open_reconstruction,
        task=task,
        precision=config.precision,
        threads=max(1, int(config.cpus_per_worker)),
    )
    job = Job(
        source=task.inputs.location,
        listed=lambda earlier: planned(task.inputs.list(), SUFFIXES[config.format], earlier),
        config=what_changes_bytes,
        shards=Verb(
            name="reconstruct",
            output=outputs,
            open_work=open_work,
            tables={"metrics": METRICS},
            companions=companions,
        ),
        guess_s=lambda: open_work(False).seconds_of_one(),  # noqa: FBT003 - on the CPU
        layout=Layout(extras=(REPORT, BLIND), companions=companions),
        gets_of_one=1 + (task.originals is not None) + (task.masks is not None),
        puts_of_one=1 + len(companions),
        last_pass=partial(_last_pass, task),
    )
    return execute(job, config)


def _choose_network(config: Reconstruct, redaction: Redaction | None) -> str:
    from redaction_core.loading import refuse_beyond_reach
    from redaction_core.models import FILLS_HOLES
    from redaction_core.redaction import Blur, Hiding, Pixelate

    if redaction is not None:
        refuse_beyond_reach("--redact ", redaction)
    if config.block_size != "auto":
        refuse_beyond_reach("--block-size: ", Pixelate(block=config.block_size))
    if config.blur_sigma is not None:
        refuse_beyond_reach("--blur-sigma: ", Blur(sigma=config.blur_sigma))
    holes = config.masks is not None or isinstance(redaction, Hiding)
    network = config.network or ("redacto" if holes else "enhancer")
    if holes != (network in FILLS_HOLES):
        does = "fills hidden pixels: give --masks, or --redact box:..."
        undoes = "undoes pixelation and blur: leave out --masks, box:, freeform: and pixels:"
        raise UsageError(f"--network {network} {undoes if holes else does}")
    if config.project and network != "enhancer-baseline":
        raise UsageError("--project is for enhancer-baseline: leave it out")
    if config.self_ensemble and not holes:
        raise UsageError("--self-ensemble is for hidden pixels: leave it out")
    return network


def _description(model: Model, what_changes_bytes: dict[str, Any]) -> str:
    """Say in each result what made it, and what it is not."""
    from importlib.metadata import version

    from jobs._verb import ESTIMATE
    from redaction_core.plan import fingerprint

    # Without places: the same images give the same bytes, wherever they lie.
    how = {name: each for name, each in what_changes_bytes.items() if name not in _PLACES}
    config = fingerprint({"verb": "reconstruct", "config": how})
    made_by = f"redaction-audit {version('redaction-audit')}"
    return f"{ESTIMATE} {made_by}, model {model.sha256}, config {config}"


def _last_pass(task: Task, run: Run, cluster: Cluster) -> Finished:
    from jobs._verb import ESTIMATE, Finished, summed_up
    from redaction_core.report.assembly import write_report

    write_report(task, run, cluster.map, ESTIMATE)
    return Finished(summary=summed_up(run))


def _what_changes_bytes(config: Reconstruct, task: Task, model: Model) -> dict[str, Any]:
    """Everything that outputs and metrics depend on; a run goes on only with the same."""
    return {
        "input": task.inputs.location,
        "network": model.name,
        "model_sha256": model.sha256,
        "originals": task.originals.location if task.originals else None,
        "masks": task.masks.location if task.masks else None,
        "redact": str(task.redaction) if task.redaction else None,
        "block_size": config.block_size,
        "block_value": config.block_value,
        "blur_sigma": config.blur_sigma,
        "self_ensemble": config.self_ensemble,
        "project": config.project,
        "uncertainty": config.uncertainty,
        "format": config.format,
        "precision": config.precision,
        "seed": config.seed,
        "max_pixels": config.max_pixels,
        "max_bytes": config.max_bytes,
        "transform_version": TRANSFORM_VERSION,
    }


if __name__ == "__main__":
    run_command(Reconstruct, reconstruct)

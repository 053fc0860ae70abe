"""Measure how strong redactions are: what comes back of clean images under each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs._command import NetworkFlags, run_command
from redaction_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobs._verb import Cluster, Finished
    from redaction_core.auditing import AuditTask
    from redaction_core.commits import Run
    from redaction_core.plan import PlannedInput

AUDIT_VERSION = 1
"""Counts changes of the code that change the rows of the same inputs."""
DEFAULT_GRID = (
    "pixelate:2,4,8,16",
    "pixelate:4,8,16:nearest",
    "blur:1,2,4,8",
    "box:0.05,0.25@center",
)


@dataclass(frozen=True, kw_only=True)
class Audit(NetworkFlags):
    """Redact clean images in many ways, bring them back, and say how strong each redaction is.

    The output holds report.html, audit.json, strength.png and a row an image and redaction in
    audit/. What is recovered is a lower bound: this attacker got so far, another may get further.
    Locations are s3://bucket/prefix, file:///folder or a plain path.
    """

    images: str
    """Folder or prefix of clean images: all files below it, at any depth; or a data set that ingest
    wrote."""
    redactions: tuple[str, ...] = DEFAULT_GRID
    """Redactions, several of a kind at once: pixelate:2,4,8,16 blur:1,2,4 box:0.05,0.25@center."""
    target_recovered: float = 0.3
    """Share: the weakest redaction is named under which less than this comes back."""
    group_by: str | None = None
    """Regular expression over keys: what its first parentheses match is the image's group. Groups
    stand side by side, and images of one count together for intervals."""
    identify: bool = False
    """Groups are people: say how often a redacted, and a restored, face is matched to clean ones of
    the same person. For pictures of aligned faces."""
    matcher: str | None = None
    """What matches faces, module:object with a method `embed`; default: a small one that comes with
    the package."""
    enhancer: str | None = None
    """Model directory for pixelation and blur; default: the weights that come with the package."""
    redacto: str | None = None
    """Model directory for hidden pixels; default: the weights that come with the package."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        super().__post_init__()
        if not 0 < self.target_recovered < 1:
            raise UsageError(f"--target-recovered {self.target_recovered}: write a share, 0 to 1")
        if self.identify and self.group_by is None:
            raise UsageError("--identify takes groups for people: name them with --group-by")
        if self.matcher is not None and not self.identify:
            raise UsageError("--matcher is for --identify")


def audit(config: Audit) -> int:
    """Run the job; gives the exit code."""
    from jobs._run import execute
    from jobs._verb import Job, Verb
    from redaction_core import schemas, strength
    from redaction_core.auditing import EMBEDDINGS, TABLE, AuditTask, open_audit
    from redaction_core.checkpoints import load_model, shipped
    from redaction_core.commits import Layout
    from redaction_core.data_set_images import open_inputs
    from redaction_core.identity import load_matcher
    from redaction_core.inference import undoes_blur
    from redaction_core.loading import Task, refuse_beyond_reach
    from redaction_core.plan import planned
    from redaction_core.redaction import Blur
    from redaction_core.report.audit import CHART, REPORT
    from redaction_core.splits import Splits
    from redaction_core.storage import open_store

    redactions = strength.parse_grid(config.redactions)
    for redaction in redactions:
        refuse_beyond_reach("--redactions ", redaction)
    if any(isinstance(each, Blur) for each in redactions) and not undoes_blur(
        load_model(config.enhancer or shipped("enhancer"), expected="enhancer")
    ):
        raise UsageError(
            f"the weights in {config.enhancer} were not trained for blur, and would call weak "
            "ones strong: leave blur out of --redactions, or name another --enhancer"
        )
    outputs = open_store(config.output)
    task = AuditTask(
        task=Task(
            inputs=open_inputs(config.images),
            outputs=None,
            seed=config.seed,
            max_pixels=config.max_pixels,
            max_bytes=config.max_bytes,
        ),
        redactions=redactions,
        enhancer=open_store(config.enhancer).location if config.enhancer else None,
        redacto=open_store(config.redacto).location if config.redacto else None,
        groups=Splits(group_by=config.group_by),
        identify=config.identify,
        matcher=config.matcher,
    )
    if config.identify:
        load_matcher(config.matcher)  # refused here, not on every worker
    open_work = partial(
        open_audit,
        audit=task,
        precision=config.precision,
        threads=max(1, int(config.cpus_per_worker)),
    )
    job = Job(
        source=task.task.inputs.location,
        listed=lambda earlier: _without_outputs(planned(task.task.inputs.list(), "", earlier)),
        config=_what_changes_bytes(config, task),
        shards=Verb(
            name="audit",
            output=outputs,
            open_work=open_work,
            tables={TABLE: schemas.AUDIT, EMBEDDINGS: schemas.EMBEDDINGS},
        ),
        guess_s=lambda: open_work(False).seconds_of_one(),  # noqa: FBT003 - on the CPU
        layout=Layout(tables=(TABLE, EMBEDDINGS), summary="audit.json", extras=(REPORT, CHART)),
        last_pass=partial(_last_pass, task, config.target_recovered),
        details=("redactions", "identification"),
        failures_table=TABLE,
    )
    return execute(job, config)


def _without_outputs(inputs: Iterable[PlannedInput]) -> Iterator[PlannedInput]:
    """Plan no images: none are written, and so none are to be removed."""
    return (replace(each, output=None) for each in inputs)


def _last_pass(task: AuditTask, target: float, run: Run, _: Cluster) -> Finished:
    from jobs._verb import ESTIMATE, Finished
    from redaction_core.report.audit import write_audit

    return Finished(summary=write_audit(task, target, run, ESTIMATE))


def _what_changes_bytes(config: Audit, task: AuditTask) -> dict[str, Any]:
    """Everything that the rows depend on; a run goes on only with the same."""
    from redaction_core.checkpoints import load_model, shipped
    from redaction_core.identity import matcher_id

    networks = {each.network: each for each in map(task.of, task.redactions)}
    models = {
        name: load_model(each.model or shipped(name), expected=name).sha256
        for name, each in sorted(networks.items())
    }
    return {
        "input": task.task.inputs.location,
        "models": models,
        "redact": [str(redaction) for redaction in task.redactions],
        "target_recovered": config.target_recovered,
        "group_by": config.group_by,
        "matcher": matcher_id(config.matcher) if config.identify else None,
        "precision": config.precision,
        "seed": config.seed,
        "max_pixels": config.max_pixels,
        "max_bytes": config.max_bytes,
        "audit_version": AUDIT_VERSION,
    }


if __name__ == "__main__":
    run_command(Audit, audit)

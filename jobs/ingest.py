"""Build a data set of images from URLs, folders or archives."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from jobs._command import RunFlags, run_command
from redaction_core.errors import Failure, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs._verb import Cluster, Finished, Verb
    from redaction_core.commits import Run
    from redaction_core.ingestion import Task
    from redaction_core.plan import PlannedInput
    from redaction_core.sources import Source

NOTE = (
    "The pictures belong to those who made them: check licences, and the rights of the people "
    "shown, before you use or pass on this data set."
)
_NOT_HERE = (
    *(Failure.NAME_COLLISION, Failure.NOT_PIXELATED, Failure.OUTPUT_CONFLICT),
    *(Failure.ORIGINAL_MISSING, Failure.ORIGINAL_UNREADABLE, Failure.ORIGINAL_SIZE),
    *(Failure.MASK_MISSING, Failure.MASK_UNREADABLE, Failure.MASK_SIZE),
    *(Failure.MASK_EMPTY, Failure.MASK_FULL),
)
"""Failures that no input of a data set has."""
_MOST_BYTES = 2**30
"""Of the pixels of a shard: it is in memory as a whole."""
_HELD_BYTES = 2**29
"""Of pixels that a worker may hold: as many shards as fit in it are under way, one at least."""


@dataclass(frozen=True, kw_only=True)
class Ingest(RunFlags):
    """Fetch or read images, check and normalise them, and write a data set of Parquet files.

    Locations are s3://bucket/prefix, file:///folder or a plain path; endpoint and credentials of
    S3 come from the standard AWS environment. The same command again goes on where it was
    interrupted; every input ends as a row of images/ or of failures/.
    """

    urls: str | None = None
    """List of URLs: txt, csv, tsv, jsonl or parquet, or one of the texts with gzip."""
    images: str | None = None
    """Folder, prefix, tar or zip file of images, or CIFAR-10 as its publisher packs it."""
    shard_size: int = 1000
    """Inputs of a shard, the unit of work, memory and retry."""
    max_failure_rate: float = 1.0
    """Share of inputs that may fail before the exit code is 1."""
    url_column: str | None = None
    """Column of the list that holds the URLs; default: url, image_url, link or src, or the
    only one."""
    size: int = 224
    """Pixels a side of the images."""
    color: Literal["gray", "rgb"] = "gray"
    """Gray (one channel) or colour (three)."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How what is not square becomes so: the largest square in the middle, black margins, or
    stretched."""
    min_size: int = 0
    """Sources with a side of fewer pixels are refused (too_small)."""
    max_pixels: int = 2**26
    """Larger images are refused before they are decoded."""
    max_bytes: int = 20_000_000
    """No more is read of a body or a file, whatever it says of its length."""
    val_fraction: float = 0.0333
    """Share of the images, or of the groups, in the split val; the others are in train."""
    group_by: str | None = None
    """Keeps groups, such as all images of a person, in one split: a column of the list, or a
    regular expression over names, whose first parentheses name the group."""
    labels: Literal["folders", "none"] = "folders"
    """For --images: folders train/LABEL/ and test/LABEL/ say label and split."""
    seed: int = 0
    """Seed of the splits."""
    timeout_s: float = 30.0
    """Seconds that a URL has in all: attempts, pauses between them, redirects."""
    attempts: int = 3
    """Attempts at a URL whose failure may pass: timeouts, resets, 408, 429, 5xx."""
    max_redirects: int = 5
    """Redirects that are followed."""
    in_flight: int = 256
    """Requests under way at once in a worker."""
    host_connections: int = 8
    """Requests under way at once to one host, from all workers together."""
    host_rate: float = 10.0
    """Requests a second to one host, from all workers together."""
    robots: bool = True
    """Honour robots.txt, and X-Robots-Tag with noai, noimageai, noindex, noimageindex or none."""
    contact: str | None = None
    """Whom to write to about the requests; told to every server."""
    allow_private_hosts: tuple[str, ...] = ()
    """Hosts that may have private addresses, and get requests without limit of their rate."""
    retry_failed: tuple[str, ...] | None = None
    """Try again what failed, all of it or these classes; what is committed stays as it is."""
    gpus_per_worker: float | None = 0
    """GPUs of a worker: none is needed."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense; raises UsageError."""
        super().__post_init__()
        if (self.urls is None) == (self.images is None):
            raise UsageError("give --urls LIST or --images PLACE, one of them")
        if self.urls is None and self.url_column is not None:
            raise UsageError("--url-column is for --urls")
        names = ("size", "max_pixels", "max_bytes", "attempts", "in_flight", "host_connections")
        for name in names:
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1")
        if not self.host_rate > 0:  # "nan" is not, either
            raise UsageError(f"--host-rate {self.host_rate:g}: more than 0")
        if self.shard_bytes > _MOST_BYTES:
            most = max(1, self.shard_size * _MOST_BYTES // self.shard_bytes)
            raise UsageError(
                f"--shard-size {self.shard_size}: with images of --size {self.size} a shard would "
                f"take more than 1 GiB; {most} at most"
            )
        if self.retry_failed is not None and (self.overwrite or self.extend):
            raise UsageError("--retry-failed goes alone: leave out --overwrite and --extend")
        known = {str(failure) for failure in Failure} - {str(failure) for failure in _NOT_HERE}
        if unknown := set(self.retry_failed or ()) - known:
            raise UsageError(
                f"--retry-failed {' '.join(sorted(unknown))}: the classes are "
                f"{', '.join(sorted(known))}"
            )

    @property
    def shard_bytes(self) -> int:
        """What the pixels of a shard take."""
        return self.shard_size * self.size**2 * (3 if self.color == "rgb" else 1)


def ingest(config: Ingest) -> int:
    """Run the job; gives the exit code."""
    from jobs._run import execute
    from jobs._verb import Job, Verb
    from redaction_core.commits import Layout
    from redaction_core.data_set import FAILURES_TABLE, NEAR_DUPLICATES
    from redaction_core.data_set_images import SUMMARY
    from redaction_core.images import Transform
    from redaction_core.ingestion import Task, open_ingestion
    from redaction_core.splits import Splits
    from redaction_core.storage import open_store

    source = _source(config)
    transform = Transform(
        size=config.size,
        color=config.color,
        fit=config.fit,
        min_size=config.min_size,
        max_pixels=config.max_pixels,
    )
    splits = Splits(
        val_fraction=config.val_fraction,
        seed=config.seed,
        group_by=source.renamed.get(config.group_by or "", config.group_by),
        columns=tuple(source.columns),
    )
    task = Task(source=source, transform=transform, splits=splits)
    job = Job(
        source=source.location,
        listed=lambda _: source.planned(),
        config=_what_changes_bytes(config, source),
        shards=Verb(
            name="ingest",
            output=open_store(config.output),
            open_work=partial(open_ingestion, task=task),
            tables=task.tables,
            at_once=max(1, min(source.at_once, _HELD_BYTES // config.shard_bytes)),
        ),
        least_s=partial(_least_s, source, config.host_rate) if config.urls else None,
        guess_s=lambda: open_ingestion(False, task=task).seconds_of_one(),  # noqa: FBT003 - on the CPU
        layout=Layout(
            tables=(*task.tables, FAILURES_TABLE),
            summary=SUMMARY,
            extras=(NEAR_DUPLICATES,),
        ),
        gets_of_one=0 if config.urls else 1,
        on_cluster=partial(_with_hosts, config=config, task=task) if config.urls else None,
        retry=None if config.retry_failed is None else partial(_failed, config.retry_failed),
        last_pass=partial(_last_pass, task),
        failures_table=FAILURES_TABLE,
        note=NOTE,
    )
    return execute(job, config)


def _source(config: Ingest) -> Source:
    if config.urls is not None:
        return _url_source(config, config.urls)
    from redaction_core.archives import is_archive
    from redaction_core.sources.archived import ArchiveSource
    from redaction_core.sources.files import FileSource
    from redaction_core.storage import open_file, open_store

    assert config.images is not None  # noqa: S101 - one of the two is given
    tree = config.labels == "folders"
    with contextlib.suppress(UsageError):  # it names no file: a bucket, "."
        place, name = open_file(config.images)
        if is_archive(place, name):
            return ArchiveSource(store=place, key=name, max_bytes=config.max_bytes, tree=tree)
    store = open_store(config.images)
    store.check(to_read=True)
    return FileSource(store=store, max_bytes=config.max_bytes, tree=tree)


def _url_source(config: Ingest, location: str) -> Source:
    from redaction_core.fetching import FetchPolicy
    from redaction_core.schemas import column_names
    from redaction_core.sources.urls import UrlSource
    from redaction_core.url_lists import open_url_list

    found = open_url_list(location, column=config.url_column)
    policy = FetchPolicy(
        timeout_s=config.timeout_s,
        attempts=config.attempts,
        max_redirects=config.max_redirects,
        max_bytes=config.max_bytes,
        in_flight=config.in_flight,
        allow_private_hosts=config.allow_private_hosts,
        robots=config.robots,
        contact=config.contact,
    )
    return UrlSource(
        location=f"{found.store.location.rstrip('/')}/{found.key}",
        list_column=found.url_column,
        policy=policy,
        renamed=column_names(found.columns, labels=False),
    )


def _with_hosts(verb: Verb, *, config: Ingest, task: Task) -> Verb:
    """Tell workers where places at hosts are handed out."""
    from jobs._hosts import open_hosts, start_hosts
    from redaction_core.ingestion import open_ingestion

    actor = start_hosts(config.host_connections, config.host_rate)
    source: Any = task.source
    told = replace(task, source=replace(source, open_hosts=partial(open_hosts, actor)))
    return replace(verb, open_work=partial(open_ingestion, task=told))


def _least_s(source: Any, host_rate: float) -> float:  # noqa: ANN401 - a source of URLs
    return float(source.most_of_a_host() / host_rate)


def _failed(classes: tuple[str, ...], run: Run) -> Iterator[PlannedInput]:
    from redaction_core.ledger import Ledger

    with Ledger.open(run) as ledger:
        yield from ledger.failed_inputs(classes)


def _last_pass(task: Task, run: Run, cluster: Cluster) -> Finished:
    from jobs._verb import Finished
    from redaction_core.data_set import finish_data_set

    summary, parts = finish_data_set(task, run, cluster.map)
    return Finished(summary=summary, parts=parts)


def _what_changes_bytes(config: Ingest, source: Source) -> dict[str, Any]:
    """Everything that the images and their splits depend on; a run goes on only with the same."""
    from redaction_core.images import TRANSFORM_VERSION

    return {
        "source": source.location,
        "url_column": config.url_column,
        "columns": dict(source.columns),
        "size": config.size,
        "color": config.color,
        "fit": config.fit,
        "min_size": config.min_size,
        "val_fraction": config.val_fraction,
        "group_by": config.group_by,
        "labels": config.labels,
        "seed": config.seed,
        "transform_version": TRANSFORM_VERSION,
    }


if __name__ == "__main__":
    run_command(Ingest, ingest)

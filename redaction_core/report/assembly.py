"""The report of a finished reconstruction: made of its commits, and of a few of its images."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import torch

from redaction_core.commits import IMAGES, read_shard
from redaction_core.commits.layout import companion_key, shard_of_part
from redaction_core.commits.parts import read_part
from redaction_core.errors import InputError, ObjectMissingError
from redaction_core.gate import Gate
from redaction_core.images import decode
from redaction_core.inference import is_out_of_memory, pixels_of, planes_of
from redaction_core.loading import load
from redaction_core.reconstruction import UNCERTAINTY, as_written
from redaction_core.redaction import redact
from redaction_core.report.blind import blind_page
from redaction_core.report.distributions import distribution
from redaction_core.report.page import Example, Page, number, render
from redaction_core.report.pictures import Picture, Shown, picture_of, pictures
from redaction_core.report.survey import MEASURED, Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from redaction_core.commits import Run
    from redaction_core.images import Pixels
    from redaction_core.loading import Task
    from redaction_core.plan import PlannedInput
    from redaction_core.storage import Store

REPORT: Final = "report.html"
BLIND: Final = "blind.html"

_EACH: Final = 3
"""Examples of a kind."""
_PAIRS: Final = 24
"""Of the page that asks people."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One restored image of which pictures are wanted."""

    task: Task
    item: PlannedInput
    number: int
    """Of its row, over all rows of the run."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What was drawn of it; empty if it cannot be read any more."""

    number: int
    panels: tuple[Picture, ...] = ()
    pair: tuple[Picture, Picture] | None = None
    """The original and the result, where the original is known."""


def write_report(
    task: Task,
    run: Run,
    spread: Callable[[Callable[[Draw], Drawn], Iterable[Draw]], Iterator[Drawn]],
    note: str,
) -> None:
    """Write the pages of a run whose shards are all committed.

    `spread` calls a function with several items, on whatever machines there are; this process sees
    the pictures as they come into the pages, and no others.

    Raises StorageError when storage fails.
    """
    survey = Survey()
    parts: list[str] = []
    for key, table in run.parts("metrics"):
        survey.add(table)
        parts.append(key)
    shards = {shard.number: shard for shard in run.shards()}
    chosen, pairs = survey.examples(_EACH), survey.sample(_PAIRS)
    rows: dict[int, Mapping[str, Any]] = {}
    draws: list[Draw] = []
    for each in dict.fromkeys([*itertools.chain.from_iterable(chosen.values()), *pairs]):
        part, row = survey.place(each)
        key = parts[part]
        rows[each] = read_part(run.store.read(key).data).slice(row, 1).to_pylist()[0]
        items = {item.key: item for item in read_shard(run.store, shards[shard_of_part(key)])}
        draws.append(Draw(task=task, item=items[rows[each]["key"]], number=each))
    drawn = {found.number: found for found in spread(draw, draws)}
    examples = [
        (kind, [_example(rows[each], drawn[each].panels) for each in some if drawn[each].panels])
        for kind, some in chosen.items()
    ]
    run.store.put(REPORT, render(_page(task, survey, examples, note)))
    blind = [(rows[each]["key"], pair) for each in pairs if (pair := drawn[each].pair)]
    if blind:
        run.store.put(BLIND, blind_page(blind, note))
    else:
        run.store.delete([BLIND])


def draw(wanted: Draw) -> Drawn:
    """Draw what belongs to one image.

    Raises StorageError when storage fails.
    """
    try:
        return _drawn(wanted)
    except (InputError, ObjectMissingError):
        return Drawn(number=wanted.number)
    except (MemoryError, RuntimeError, cv2.error) as error:
        if not is_out_of_memory(error):
            raise
        return Drawn(number=wanted.number)


def _drawn(wanted: Draw) -> Drawn:
    task, item = wanted.task, wanted.item
    work = load(task, item, Gate(2 * task.max_pixels), 0)
    if work.error is not None or item.output is None or task.outputs is None:
        return Drawn(number=wanted.number)
    restored = _read_image(task, task.outputs, f"{IMAGES}{item.output}")
    restored = as_written(restored, work.pixels)
    intervals = (
        _read_image(task, task.outputs, companion_key(UNCERTAINTY, item.output))
        if task.uncertainty
        else None
    )
    shown = Shown(
        redacted=work.pixels,
        restored=restored,
        original=work.original,
        hidden=work.hidden,
        intervals=intervals,
    )
    if task.redaction is not None:
        clean = planes_of(work.pixels)[None]
        with torch.inference_mode():
            redacted = redact(task.redaction, clean, [item.key], task.seed)
        hidden = None if redacted.hidden is None else redacted.hidden[0, 0].numpy()
        shown = replace(
            shown,
            redacted=pixels_of(redacted.images_u8[0]),
            original=work.pixels,
            hidden=hidden,
        )
    pair = None
    if shown.original is not None:
        pair = picture_of("original", shown.original), picture_of("restored", restored)
    return Drawn(number=wanted.number, panels=tuple(pictures(shown)), pair=pair)


def _read_image(task: Task, store: Store, key: str) -> Pixels:
    return decode(store.read(key).data, max_pixels=task.max_pixels).pixels


def _example(row: Mapping[str, Any], drawn: tuple[Picture, ...]) -> Example:
    names = {
        "recovered": "recovered",
        "mae": "MAE",
        "bicubic_mae": "bicubic MAE",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "consistency_mae": "consistency",
        "expected_mae": "expected MAE",
    }
    figures = [
        f"{title} {number(row[name], name)}"
        for name, title in names.items()
        if row[name] is not None
    ]
    return Example(name=row["key"], figures=", ".join(figures), pictures=drawn)


def _page(task: Task, survey: Survey, examples: list[tuple[str, list[Example]]], note: str) -> Page:
    failed = survey.failures.total()
    spreads = {name: distribution(name, survey.values(name)) for name in MEASURED}
    tiles = [("images", f"{survey.inputs:,}"), ("restored", f"{survey.inputs - failed:,}")]
    tiles += [("failed", f"{failed:,}")] if failed else []
    titles = {"recovered": "mean recovered", "mae": "mean MAE", "psnr": "mean PSNR"}
    for name, title in titles.items():
        spread = spreads[name]
        if spread is not None:
            tiles.append((title, number(spread.mean, name)))
    if survey.inconsistent:
        tiles.append(("do not explain their input", f"{survey.inconsistent:,}"))
    if survey.coverage:
        mean = sum(survey.coverage) / len(survey.coverage)
        tiles.append(("held by 90 % intervals", f"{mean:.1%}"))
    how = f"clean images, redacted by {task.redaction}" if task.redaction else "redacted images"
    return Page(
        title=f"Reconstruction of {survey.inputs:,} images",
        subtitle=f"{how}, restored by {task.network}",
        note=note,
        tiles=tiles,
        failures=survey.failures.most_common(),
        distributions=[each for each in spreads.values() if each is not None],
        ranked_by=survey.ranked_by,
        examples=examples,
        rows=survey.head,
        inputs=survey.inputs,
    )

"""What an audit found: the strength of each redaction as numbers, as a chart and as a page."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from redaction_core.auditing import EMBEDDINGS, TABLE
from redaction_core.identification import identify
from redaction_core.redaction import parse
from redaction_core.report.charts import line_chart
from redaction_core.report.page import render_template
from redaction_core.strength import Enough, Mean, family, mean_of, strength, unit_of, weakest_enough

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from redaction_core.auditing import AuditTask
    from redaction_core.commits import Run
    from redaction_core.identification import Identified
    from redaction_core.redaction import Redaction

REPORT: Final = "report.html"
CHART: Final = "strength.png"
BOUND: Final = (
    "What is recovered is a lower bound: this attacker got so far, another may get further."
)
_MEASURES: Final = ("recovered", "bicubic_recovered", "mae", "baseline_mae", "bicubic_mae", "ssim")
_CURVES: Final = ("bicubic_recovered", "recovered")
_LARGEST_GROUPS: Final = 20
"""Groups that stand side by side; where each has a few images alone, none does."""
_LEAST_IMAGES: Final = 5
LEAST_DAMAGE: Final = 0.5 / 255
"""Mean absolute error of a redacted image, from which on it counts what share comes back."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """One redaction: means over the images, with intervals of 95 %."""

    redaction: str
    images: int
    failed: int
    means: Mapping[str, Mean | None]
    """Of `_MEASURES`; `bicubic_recovered` is what interpolation alone brings back."""
    groups: Mapping[str, Mean | None]
    """What is recovered in each group."""


class _Columns:
    """What is kept of all rows of one redaction: a few numbers an image."""

    def __init__(self) -> None:
        self.failed = 0
        self.groups: list[str | None] = []
        self.values: dict[str, list[npt.NDArray[np.float64]]] = defaultdict(list)

    def add(self, rows: pa.Table) -> None:
        self.failed += rows.column("failure").length() - rows.column("failure").null_count
        self.groups += rows.column("group").to_pylist()
        found = {name: _numbers(rows, name) for name in _MEASURES if name in rows.column_names}
        # Shares of next to nothing are without bound, and would outweigh all others.
        damaged = found["baseline_mae"] >= LEAST_DAMAGE
        with np.errstate(divide="ignore", invalid="ignore"):
            bicubic = 1 - found["bicubic_mae"] / found["baseline_mae"]
        found["bicubic_recovered"] = np.where(damaged & np.isfinite(bicubic), bicubic, np.nan)
        found["recovered"] = np.where(damaged, found["recovered"], np.nan)
        for name, values in found.items():
            self.values[name].append(values)

    def strength(self, redaction: str, side_by_side: Sequence[str]) -> Strength:
        none = [np.empty(0)]
        values = {name: np.concatenate(self.values.get(name, none)) for name in _MEASURES}
        groups = np.array(self.groups, dtype=object)
        return Strength(
            redaction=redaction,
            images=len(groups) - self.failed,
            failed=self.failed,
            means={name: mean_of(values[name], self.groups) for name in _MEASURES},
            groups={
                name: mean_of(
                    values["recovered"][groups == name], [None] * int((groups == name).sum())
                )
                for name in side_by_side
            },
        )


def measure_strength(redactions: Iterable[Redaction], parts: Iterable[pa.Table]) -> list[Strength]:
    """Give the strength of each redaction, in their order, of all rows of `schemas.AUDIT`."""
    columns = {str(redaction): _Columns() for redaction in redactions}
    for part in parts:
        names = np.array(part.column("redaction").to_pylist(), dtype=object)
        for name, found in columns.items():
            found.add(part.filter(pa.array(names == name)))
    first = next(iter(columns.values()))
    sizes = Counter(group for group in first.groups if group is not None)
    common = [
        name for name, count in sizes.most_common(_LARGEST_GROUPS + 1) if count >= _LEAST_IMAGES
    ]
    side_by_side = sorted(common) if len(common) <= _LARGEST_GROUPS else []
    return [found.strength(name, side_by_side) for name, found in columns.items()]


def strength_png(strengths: Sequence[Strength], target: float) -> bytes:
    """Draw what is recovered against strength, a panel a family, interpolation beside it: PNG."""
    families = families_of(strengths)
    figure = Figure((4.2 * len(families), 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, members) in zip(
        figure.subplots(1, len(families), squeeze=False)[0], families, strict=True
    ):
        x = [strength(parse(each.redaction)) for each in members]
        for measure, label, colour in (
            ("recovered", "network", "#0072B2"),
            ("bicubic_recovered", "bicubic", "#D55E00"),
        ):
            means = [each.means[measure] for each in members]
            if all(mean is None for mean in means):
                continue
            low, middle, high = (
                [np.nan if mean is None else getattr(mean, end) for mean in means]
                for end in ("low", "value", "high")
            )
            axes.plot(x, middle, marker="o", color=colour, label=label)
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.axhline(target, color="#595959", linestyle=":", linewidth=1)
        axes.set_title(name, fontsize=10, parse_math=False)
        axes.set_xlabel(unit_of(name))
        axes.set_ylabel("share recovered")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def families_of(strengths: Sequence[Strength]) -> list[tuple[str, list[Strength]]]:
    """Gather redactions that differ in strength alone, which they are sorted by."""
    found = groupby(strengths, key=lambda each: family(parse(each.redaction)))
    return [(name, list(members)) for name, members in found]


def answers(strengths: Sequence[Strength], target: float) -> list[Enough]:
    """Name the weakest redaction of each family under which less than the target comes back."""
    return weakest_enough(
        ((parse(each.redaction), each.means["recovered"]) for each in strengths), target
    )


def parts_of(run: Run, table: str) -> Iterator[pa.Table]:
    """Read one table's rows of all shards, in order."""
    return (rows for _, rows in run.parts(table))


def summary(
    run: Run, strengths: Sequence[Strength], target: float, failures: Mapping[str, int]
) -> dict[str, Any]:
    """Give what audit.json says, as JSON values."""
    failed = sum(failures.values())
    return {
        "inputs": run.inputs,
        "ok": run.inputs - failed,
        "failed": failed,
        "failures": dict(sorted(failures.items())),
        "redactions": [
            {
                "redaction": each.redaction,
                "images": each.images,
                "failed": each.failed,
                "means": {name: _json(mean) for name, mean in each.means.items()},
                "groups": {name: _json(mean) for name, mean in each.groups.items()},
            }
            for each in strengths
        ],
        "target_recovered": target,
        "weakest_enough": [asdict(each) for each in answers(strengths, target)],
        "bound": BOUND,
    }


def write_audit(task: AuditTask, target: float, run: Run, note: str) -> dict[str, Any]:
    """Write chart and page of an audit whose shards are all committed; gives what audit.json says.

    Raises StorageError when storage fails.
    """
    failures: Counter[str] = Counter()
    for commit in run.commits():
        failures.update(commit.totals["failures"])
    strengths = measure_strength(task.redactions, parts_of(run, TABLE))
    identified = identify(partial(parts_of, run, EMBEDDINGS)) if task.identify else []
    where = f"{run.inputs:,} images of {task.task.inputs.location}"
    page = audit_page(
        strengths,
        identified,
        subtitle=where,
        note=note,
        target=target,
        failures=failures.most_common(),
    )
    run.store.put(CHART, strength_png(strengths, target))
    run.store.put(REPORT, page)
    found = summary(run, strengths, target, failures)
    if task.identify:
        found["identification"] = [_as_json(each) for each in identified]
    return found


def _as_json(each: Identified) -> dict[str, Any]:
    return {
        "redaction": each.redaction,
        "state": each.state,
        "gallery": each.gallery,
        "people": each.people,
        "ranks": {str(rank): _json(mean) for rank, mean in each.ranks.items()},
        "chance": {str(rank): _short(share) for rank, share in each.chance.items()},
    }


def _json(mean: Mean | None) -> dict[str, float] | None:
    if mean is None:
        return None
    return {name: _short(value) for name, value in asdict(mean).items()}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _numbers(rows: pa.Table, name: str) -> npt.NDArray[np.float64]:
    values = rows.column(name).to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64)


def audit_page(  # noqa: PLR0913 - the last four by name
    strengths: Sequence[Strength],
    identified: Sequence[Identified],
    *,
    subtitle: str,
    note: str,
    target: float,
    failures: Sequence[tuple[str, int]],
) -> bytes:
    """Write the page of an audit: HTML."""
    groups = list(strengths[0].groups)
    return render_template(
        "audit.html.j2",
        title="How strong are these redactions?",
        subtitle=subtitle,
        note=f"{note} {BOUND}",
        tiles=[
            ("images", f"{strengths[0].images + strengths[0].failed:,}"),
            ("redactions", str(len(strengths))),
        ],
        target=f"{target:.0%}",
        answers=answers(strengths, target),
        bound=BOUND,
        charts=[
            line_chart(
                name,
                [each.redaction for each in members],
                {curve: [each.means[curve] for each in members] for curve in _CURVES},
                target,
            )
            for name, members in families_of(strengths)
        ],
        table=[_row(each) for each in strengths],
        groups=groups,
        group_table=[
            [each.redaction, *(_with_interval(each.groups[name]) for name in groups)]
            for each in strengths
        ],
        identified=[_identified_row(each) for each in identified],
        people=identified[0].people if identified else 0,
        failures=failures,
    )


def _identified_row(each: Identified) -> list[str]:
    ranks = [
        cell
        for rank, mean in each.ranks.items()
        for cell in (
            f"{mean.value:.1%} ({mean.low:.1%} to {mean.high:.1%})",
            f"{each.chance[rank]:.1%}",
        )
    ]
    return [each.redaction or "none", each.state, each.gallery, *ranks]


def _row(each: Strength) -> list[str]:
    recovered, bicubic = each.means["recovered"], each.means["bicubic_recovered"]
    return [
        each.redaction,
        f"{each.images:,}",
        f"{each.failed:,}",
        "" if recovered is None else f"{recovered.value:.3f}",
        "" if recovered is None else f"{recovered.low:.3f} to {recovered.high:.3f}",
        "" if bicubic is None else f"{bicubic.value:.3f}",
        *(
            "" if mean is None else f"{mean.value:.{digits}f}"
            for mean, digits in (
                (each.means["mae"], 4),
                (each.means["baseline_mae"], 4),
                (each.means["ssim"], 3),
            )
        ),
    ]


def _with_interval(mean: Mean | None) -> str:
    return "" if mean is None else f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f})"

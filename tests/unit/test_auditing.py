"""An audit's shard, and what is made of its rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from redaction_core.auditing import Audit, AuditTask
from redaction_core.errors import StorageError
from redaction_core.plan import PlannedInput, planned
from redaction_core.reconstruction import Reconstruction
from redaction_core.redaction import parse
from redaction_core.report.audit import audit_page, measure_strength, strength_png
from redaction_core.schemas import AUDIT
from redaction_core.splits import Splits
from tests.unit.networks import restorer
from tests.unit.shards import picture, put, task

REDACTIONS = (parse("pixelate:4"), parse("pixelate:8"))


class Corner:
    """A matcher that sees one pixel."""

    def embed(self, images: Sequence[Any]) -> Any:  # noqa: ANN401 - of NumPy
        return np.array([[image.flat[0] + 1.0, 1.0] for image in images], np.float32)


class Failing:
    """An attack that looks at its images, and then finds storage gone."""

    def __init__(self, attack: Reconstruction) -> None:
        self.attack = attack

    def run(self, inputs: Sequence[PlannedInput], look: Callable[..., None] | None) -> object:
        found = self.attack.run(inputs, look)
        if inputs:
            raise StorageError("gone")
        return found


def audit_of(folder: Path, *, fails: bool = False) -> tuple[Audit, list[PlannedInput]]:
    for name in ("a", "b"):
        put(folder / "in", f"{name}.png", picture(24, 24, seed=ord(name)))
    given = AuditTask(
        task=task(folder, outputs=None),
        redactions=REDACTIONS,
        groups=Splits(group_by="(.)"),
        identify=True,
    )
    attacks = [Reconstruction(given.of(each), restorer("enhancer")) for each in REDACTIONS]
    if fails:
        attacks[1] = cast("Reconstruction", Failing(attacks[1]))
    return Audit(given, attacks, Corner()), list(planned(given.task.inputs.list(), ""))


def test_every_picture_has_a_vector_a_state(tmp_path: Path) -> None:
    audit, inputs = audit_of(tmp_path)

    outcome = audit.run(inputs)

    states = [(None, "clean"), *((str(r), s) for r in REDACTIONS for s in ("redacted", "restored"))]
    found = [(e["key"], e["redaction"], e["state"]) for e in outcome.embeddings]
    assert found == sorted(
        ((item.key, r, s) for item in inputs for r, s in states),
        key=lambda each: (each[0], each[1] or "", each[2]),
    )
    assert {each["group"] for each in outcome.embeddings} == {"a", "b"}


def test_a_shard_that_failed_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    audit, inputs = audit_of(tmp_path, fails=True)

    with pytest.raises(StorageError):
        audit.run(inputs[:1])

    assert audit.run([]).embeddings == []


def table(**columns: object) -> pa.Table:
    row = dict.fromkeys(AUDIT.names) | {"redaction": "pixelate:4", "status": "ok", **columns}
    return pa.Table.from_pylist([row], schema=AUDIT)


def test_what_was_hardly_damaged_does_not_count() -> None:
    much = table(key="a", baseline_mae=0.1, mae=0.04, bicubic_mae=0.06, recovered=0.6)
    little = table(key="b", baseline_mae=1e-5, mae=1e-2, bicubic_mae=1e-2, recovered=-999.0)

    (found, _) = measure_strength(REDACTIONS, [much, little])

    recovered, bicubic = found.means["recovered"], found.means["bicubic_recovered"]
    assert recovered is not None
    assert bicubic is not None
    assert (recovered.value, recovered.images) == (0.6, 1)
    assert (bicubic.value, bicubic.images) == (pytest.approx(0.4), 1)
    assert found.images == 2


@pytest.mark.parametrize("rows", [[], [table(key="a", status="failed", failure="not_an_image")]])
def test_an_audit_without_a_result_has_its_page(rows: list[pa.Table]) -> None:
    strengths = measure_strength(REDACTIONS, rows)

    page = audit_page(strengths, [], subtitle="", note="", target=0.3, failures=[])

    assert b"none of those tried" in page
    assert strength_png(strengths, 0.3).startswith(b"\x89PNG")

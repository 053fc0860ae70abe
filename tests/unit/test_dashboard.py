"""Dashboard and alerts ask for metrics that exist: ours here, Ray's where a cluster runs."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from jobs._telemetry import NAMES

INFRA = Path(__file__).resolve().parents[2] / "infra"
DASHBOARD = INFRA / "grafana" / "dashboard.json"
ALERTS = INFRA / "prometheus" / "alerts.yaml"
METRIC = re.compile(r"\bray_\w+")


def expressions(found: Any) -> list[str]:  # noqa: ANN401 - any JSON
    """Give all PromQL of a document."""
    if isinstance(found, dict):
        mine = [found["expr"]] if "expr" in found else []
        return mine + [each for value in found.values() for each in expressions(value)]
    if isinstance(found, list):
        return [each for value in found for each in expressions(value)]
    return []


def metrics_asked_for() -> set[str]:
    """Give the names of all metrics that dashboard and alerts ask for."""
    documents = [json.loads(DASHBOARD.read_text()), yaml.safe_load(ALERTS.read_text())]
    return set(METRIC.findall(" ".join(expressions(documents))))


def test_our_metrics_exist_and_all_are_shown() -> None:
    ours = {name.removeprefix("ray_") for name in metrics_asked_for() if "_redaction_" in name}
    assert ours == NAMES


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (at["x"] + right, at["y"] + down) for right in range(at["w"]) for down in range(at["h"])
        }
        assert not taken & cells
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_alerts_say_what_to_do() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]:
        assert set(rule) >= {"alert", "expr", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}

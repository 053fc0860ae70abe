"""The files of infra/ agree with the project and with each other."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.evaluation.validate_manifests import problems, strict

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "infra" / "kuberay" / "reconstruct.rayjob.yaml"


@pytest.fixture
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return loaded


def required_ray() -> str:
    """Version of Ray that pyproject.toml asks for, such as 2.60."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = (one for one in project["dependencies"] if one.startswith("ray["))
    return ray.split("==")[1].removesuffix(".*")


def test_one_ray_version_everywhere(manifest: dict[str, Any]) -> None:
    (base,) = re.findall(r"^FROM rayproject/ray:(\S+)$", dockerfile(), re.MULTILINE)
    assert base.startswith(f"{required_ray()}.")
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == base.split("-")[0]


def test_the_image_is_not_run_as_root() -> None:
    assert re.findall(r"^USER (\S+)$", dockerfile(), re.MULTILINE) == ["ray"]


def test_the_image_gets_what_the_ignore_file_lets_through() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for sources in re.findall(r"^COPY --chown=\S+ (.+) \S+$", dockerfile(), re.MULTILINE):
        copied.update(sources.split())
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_no_pod_runs_as_root(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_validation_refuses_a_field_that_the_schema_does_not_name(tmp_path: Path) -> None:
    (tmp_path / "rayjobs.v1.schema.json").write_text(
        '{"type": "object", "properties": {"apiVersion": {"type": "string"},'
        ' "kind": {"type": "string"}, "metadata": {"type": "object"},'
        ' "spec": {"type": "object", "properties": {"entrypoint": {"type": "string"}}}}}'
    )
    good = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "a"}}
    assert problems(good | {"spec": {"entrypoint": "true"}}, tmp_path) == []
    assert "entrypont" in problems(good | {"spec": {"entrypont": "true"}}, tmp_path)[0]
    assert "$.spec.entrypoint" in problems(good | {"spec": {"entrypoint": 1}}, tmp_path)[0]


def test_an_object_that_keeps_unknown_fields_stays_open() -> None:
    schema = {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True}
    assert strict(schema) == schema


def dockerfile() -> str:
    return (ROOT / "infra" / "Dockerfile").read_text()

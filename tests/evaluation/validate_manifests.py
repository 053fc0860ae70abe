"""Validate the manifests of infra/: `python -m tests.evaluation.validate_manifests SCHEMA_DIR`.

SCHEMA_DIR holds the schemas of KubeRay's custom resources as `<plural>.<version>.schema.json`. They
are read strictly, as are those of Kubernetes: a field that a schema does not name, which Kubernetes
would drop, is an error. Each verb is rendered by kustomize, alone and with every set of components;
whoever calls it finds `kustomize` or `kubectl` on the path.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
KUBERAY = INFRA / "kuberay"
LAUNCHER = INFRA / "aws" / "cluster.yaml"
VERBS = ("ingest", "train", "reconstruct", "audit", "verify")

Manifest = dict[str, Any]


def kustomize() -> list[str] | None:
    """Return the command that renders a folder, if there is one here."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


def rendered(folder: Path) -> list[Manifest]:
    """Return the manifests of a folder."""
    command = kustomize()
    assert command is not None, "neither kustomize nor kubectl is on the path"
    result = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{folder}: {result.stderr}"
    return list(yaml.safe_load_all(result.stdout))


@cache
def all_rendered() -> dict[str, list[Manifest]]:
    """Return what people may apply: overlays, and each verb with each set of components."""
    found = {f"overlays/{each.name}": rendered(each) for each in children(KUBERAY / "overlays")}
    components = [each.name for each in children(KUBERAY / "components")]
    sets = [each for count in (0, 1, 2) for each in combinations(components, count)]
    with tempfile.TemporaryDirectory() as folder:
        # References are relative: an overlay lies beside what it is made of.
        shutil.copytree(KUBERAY, Path(folder, "kuberay"))
        for verb in VERBS:
            for chosen in sets:
                overlay = Path(folder, "kuberay", "-".join(("one", verb, *chosen)))
                overlay.mkdir()
                content = {
                    "resources": [f"../{verb}"],
                    "components": [f"../components/{each}" for each in chosen],
                }
                (overlay / "kustomization.yaml").write_text(json.dumps(content))
                found[" + ".join((verb, *chosen))] = rendered(overlay)
    return found


def children(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir())


def pods(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Yield the templates of the pods of a RayJob."""
    spec = manifest["spec"]
    yield "submitter", spec["submitterPodTemplate"]
    yield "head", spec["rayClusterSpec"]["headGroupSpec"]["template"]
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def strict(schema: Any) -> Any:  # noqa: ANN401 - a JSON schema is any JSON
    """Return the schema with every object closed that names its properties."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    is_object = schema.get("type") == "object" and "properties" in schema
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def problems(manifest: Manifest, schema_dir: Path) -> list[str]:
    """Return what is wrong with one custom resource, a line each."""
    version = manifest["apiVersion"].removeprefix("ray.io/")
    path = schema_dir / f"{manifest['kind'].lower()}s.{version}.schema.json"
    return [f"{each.json_path}: {each.message}" for each in validator(path).iter_errors(manifest)]


@cache
def validator(path: Path) -> Any:  # noqa: ANN401 - jsonschema has no annotations
    return jsonschema.Draft202012Validator(strict(json.loads(path.read_text())))


def kubernetes_problems(manifest: Manifest) -> list[str]:
    """Return what Kubernetes finds wrong with a manifest, or with the pods of a RayJob."""
    checked = {"": manifest}
    if manifest["kind"] == "RayJob":
        head = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
        checked = {name: head | {"template": template} for name, template in pods(manifest)}
    found = []
    for name, each in checked.items():
        try:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name} {'.'.join(map(str, error.path))}: {error.message}")
    return found


def launcher() -> Manifest:
    """Return the launcher's file as Ray fills it in and finds it good; raises what Ray raises."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: Manifest = prepare_config(yaml.safe_load(LAUNCHER.read_text()))
    validate_config(config)
    return config


def base_tag() -> str:
    """Return the version in the image's base, such as 2.60.0."""
    dockerfile = (INFRA / "Dockerfile").read_text()
    (tag,) = re.findall(r"^FROM rayproject/ray:(\d+\.\d+\.\d+)-py311-", dockerfile, re.MULTILINE)
    return str(tag)


def required_ray() -> str:
    """Return the version of Ray that pyproject.toml asks for, such as 2.60."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ray,) = (one for one in project["dependencies"] if one.startswith("ray["))
    return str(ray.split("==")[1].removesuffix(".*"))


def main(schema_dir: Path) -> int:
    """Print a line a check and a line a problem; return 1 if there is any."""
    found: dict[str, list[str]] = {}
    for name, manifests in all_rendered().items():
        for manifest in manifests:
            custom = manifest["kind"] == "RayJob"
            wrong = problems(manifest, schema_dir) if custom else []
            title = f"{name}: {manifest['kind']} {manifest['metadata']['name']}"
            found[title] = wrong + kubernetes_problems(manifest)
    try:
        launcher()
        found["aws/cluster.yaml, as Ray reads it"] = []
    except (ValueError, jsonschema.ValidationError) as error:
        found["aws/cluster.yaml, as Ray reads it"] = [str(error)]
    wanted = required_ray()
    same = base_tag().startswith(f"{wanted}.")
    found[f"Dockerfile stands on Ray {wanted}"] = [] if same else [base_tag()]
    for title, lines in found.items():
        print("FAIL" if lines else "PASS", title, *(f"\n  {line}" for line in lines))
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m {__spec__.name} SCHEMA_DIR")
    sys.exit(main(Path(sys.argv[1])))

"""Validate the manifests of infra/kuberay: `python -m tests.evaluation.validate_manifests DIR`.

DIR holds the schemas of KubeRay's custom resources as `<plural>.<version>.schema.json`. They are
read strictly: a field that a schema does not name, which Kubernetes would drop, is an error.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "infra" / "kuberay"


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


def problems(manifest: dict[str, Any], schema_dir: Path) -> list[str]:
    """Return what is wrong with one manifest, a line each."""
    version = manifest["apiVersion"].removeprefix("ray.io/")
    path = schema_dir / f"{manifest['kind'].lower()}s.{version}.schema.json"
    validator = jsonschema.Draft202012Validator(strict(json.loads(path.read_text())))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def main(schema_dir: Path) -> int:
    """Print a line a manifest and a line a problem; return 1 if there is any."""
    found = 0
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            wrong = problems(manifest, schema_dir)
            found += len(wrong)
            print(f"{path.name}: {manifest['kind']} {'is valid' if not wrong else 'is not valid'}")
            print(*(f"  {line}" for line in wrong), sep="\n", end="\n" if wrong else "")
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m {__spec__.name} SCHEMA_DIR")
    sys.exit(main(Path(sys.argv[1])))

"""The files of infra/ agree with the project, with each other, and with what is safe."""

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from tests.evaluation.replay_dockerfile import instructions
from tests.evaluation.validate_manifests import (
    INFRA,
    LAUNCHER,
    ROOT,
    VERBS,
    all_rendered,
    base_tag,
    kubernetes_problems,
    kustomize,
    launcher,
    pods,
    problems,
    required_ray,
    strict,
)

Manifest = dict[str, Any]
MINE = "infra/kuberay/overlays/mine"
"""What readers make themselves."""
needs_kustomize = pytest.mark.skipif(kustomize() is None, reason="kustomize renders the manifests")


def rayjobs() -> list[Manifest]:
    return [each for many in all_rendered().values() for each in many if each["kind"] == "RayJob"]


@needs_kustomize
def test_every_verb_is_rendered_alone_and_with_components() -> None:
    names = all_rendered()
    assert {*VERBS, "train + gpu", "ingest + gpu + spot", "overlays/train-gpu"} <= names.keys()
    for name, manifests in names.items():
        kinds = sorted(each["kind"] for each in manifests)
        assert kinds == ["NetworkPolicy", "RayJob", "ServiceAccount"], name


@needs_kustomize
def test_kubernetes_accepts_every_manifest() -> None:
    # Each of them once: accounts and policies are the same in most.
    found = {str(each): each for many in all_rendered().values() for each in many}
    assert [line for each in found.values() for line in kubernetes_problems(each)] == []


@needs_kustomize
def test_kubernetes_refuses_what_it_does_not_know() -> None:
    (job,) = (each for each in all_rendered()["ingest"] if each["kind"] == "RayJob")
    broken = yaml.safe_load(yaml.safe_dump(job))
    broken["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["nodeSelecter"] = {}
    assert "nodeSelecter" in kubernetes_problems(broken)[0]


@needs_kustomize
def test_every_pod_is_confined() -> None:
    for job in rayjobs():
        for name, template in pods(job):
            pod = template["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False, name
            for container in pod["containers"]:
                confined(container)
                assert container["imagePullPolicy"] == "Always"
                assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        confined(job["spec"]["rayClusterSpec"]["autoscalerOptions"])


def confined(container: Manifest) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 - in the pod


@needs_kustomize
def test_pods_of_a_verb_reach_each_other_and_stay_where_they_are() -> None:
    for name, manifests in all_rendered().items():
        by_kind = {each["kind"]: each for each in manifests}
        job, policy = by_kind["RayJob"], by_kind["NetworkPolicy"]["spec"]
        verb = job["metadata"]["name"]
        labels = {"app.kubernetes.io/part-of": "redaction-audit"}
        labels["app.kubernetes.io/component"] = verb
        selectors = [
            policy["podSelector"],
            policy["ingress"][0]["from"][0]["podSelector"],
            policy["egress"][0]["to"][0]["podSelector"],
        ]
        assert selectors == [{"matchLabels": labels}] * 3, name
        for pod, template in pods(job):
            assert template["metadata"]["labels"] == labels, (name, pod)
            stays = template["metadata"]["annotations"]
            assert stays["karpenter.sh/do-not-disrupt"] == "true"
            assert stays["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


@needs_kustomize
def test_the_autoscaler_alone_may_ask_kubernetes() -> None:
    for job in rayjobs():
        mounts = job["spec"]["rayClusterSpec"]["autoscalerOptions"]["volumeMounts"]
        assert "kubernetes" in {each["name"] for each in mounts}
        for _, template in pods(job):
            for container in template["spec"]["containers"]:
                assert "kubernetes" not in {each["name"] for each in container["volumeMounts"]}


@needs_kustomize
def test_clusters_ask_for_a_token_end_by_themselves_and_grow_from_nothing() -> None:
    for job in rayjobs():
        spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token"}
        assert spec["shutdownAfterJobFinishes"] is True
        assert min(spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) > 0
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        (group,) = cluster["workerGroupSpecs"]
        from_nothing = job["metadata"]["name"] != "verify"
        assert (group["minReplicas"] == 0) is from_nothing
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@needs_kustomize
def test_each_verb_runs_as_its_own_account() -> None:
    for name, manifests in all_rendered().items():
        by_kind = {each["kind"]: each for each in manifests}
        job = by_kind["RayJob"]
        account = f"redaction-{job['metadata']['name']}"
        assert by_kind["ServiceAccount"]["metadata"]["name"] == account, name
        for _, template in list(pods(job))[1:]:
            assert template["spec"]["serviceAccountName"] == account, name


@needs_kustomize
def test_entrypoints_are_accepted_and_fit_what_the_cluster_grows_to() -> None:
    for job in rayjobs():
        name, spec = job["metadata"]["name"], job["spec"]
        python, minus_m, module, *flags = shlex.split(spec["entrypoint"])
        assert (python, minus_m, module) == ("python", "-m", f"jobs.{name}")
        config: Any = tyro.cli(
            getattr(importlib.import_module(module), name.capitalize()), args=flags
        )
        if name == "verify":
            continue
        (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
        cores = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        # Without --workers a cluster that has no machine yet is refused.
        most = int(str(config.workers).rpartition(":")[2])
        assert most * config.cpus_per_worker <= cores * group["maxReplicas"]
        if name == "train":
            assert config.resume, "a retry goes on"


@needs_kustomize
def test_workers_with_gpus_are_asked_to_use_them() -> None:
    (job,) = (each for each in all_rendered()["overlays/train-gpu"] if each["kind"] == "RayJob")
    *_, (_, worker) = pods(job)
    (container,) = worker["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["image"].endswith(":gpu")
    assert "--device gpu" in job["spec"]["entrypoint"]


@needs_kustomize
def test_spot_machines_have_time_to_drain_and_the_head_is_on_none() -> None:
    (job,) = (each for each in all_rendered()["ingest + spot"] if each["kind"] == "RayJob")
    _, (_, head), (_, worker) = pods(job)
    assert "nodeSelector" in worker["spec"]
    assert "nodeSelector" not in head["spec"]
    (container,) = worker["spec"]["containers"]
    (drain_s,) = (
        float(each["value"])
        for each in container["env"]
        if each["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    )
    assert drain_s < worker["spec"]["terminationGracePeriodSeconds"] < 120


@needs_kustomize
def test_one_ray_version_everywhere() -> None:
    assert base_tag().startswith(f"{required_ray()}.")
    assert {job["spec"]["rayClusterSpec"]["rayVersion"] for job in rayjobs()} == {base_tag()}
    assert f"ray=={base_tag()}" in (INFRA / "constraints.txt").read_text().splitlines()


def test_constraints_pin_what_the_project_needs() -> None:
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    lines = (INFRA / "constraints.txt").read_text().splitlines()
    pinned = dict(each.lower().split("==") for each in lines if not each.startswith("#"))
    for line in requires("redaction-audit") or []:
        needed = Requirement(line)
        if needed.marker is None:
            assert needed.specifier.contains(pinned[needed.name]), line


def test_no_file_holds_a_secret() -> None:
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|(?i:(?<!/)(secret_access_key|auth_token|password))\s*[:=]\s*\S"
    )
    for path in INFRA.rglob("*"):
        if path.is_file() and path.suffix in {".yaml", ".json", ".txt", ""}:
            lines = path.read_text().splitlines()
            assert not [each for each in lines if secret.search(each)], path


def test_the_launcher_is_what_ray_accepts_and_closed_to_the_world() -> None:
    config = launcher()
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"]["CPU"] == 0
    for name, each in types.items():
        node = each["node_config"]
        assert each["min_workers"] == 0
        # Ray's own group is open to all on port 22, and its own role may do too much.
        assert node["SecurityGroupIds"], name
        assert node["IamInstanceProfile"], name
        spot = node.get("InstanceMarketOptions") == {"MarketType": "spot"}
        assert spot is (each is not head), name
    assert config["provider"]["use_internal_ips"] is True
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    # Without it S3 is asked in us-east-1, where a gateway endpoint does not lead.
    assert f"--env AWS_REGION={config['provider']['region']}" in config["docker"]["run_options"]
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert config["setup_commands"] == []  # Ray's default installs a nightly build


def test_the_head_starts_what_the_launcher_names_and_ends_no_other_machine() -> None:
    document = json.loads((LAUNCHER.parent / "head-policy.json").read_text())
    by_name = {each["Sid"]: each for each in document["Statement"]}
    config = launcher()
    worker = config["available_node_types"]["worker"]["node_config"]
    profile, own = worker["IamInstanceProfile"]["Arn"], config["cluster_name"]
    assert by_name["StartWorkers"]["Condition"] == {
        "StringEquals": {"aws:RequestTag/ray-cluster-name": own},
        "ArnEquals": {"ec2:InstanceProfile": profile},
    }
    with_what = [each.rpartition("/")[2] for each in by_name["StartThemWith"]["Resource"]]
    assert {*worker["SecurityGroupIds"], *worker["SubnetIds"]} < set(with_what)
    ended = by_name["TagAndEndItsOwn"]["Condition"]["StringEquals"]
    assert ended == {"aws:ResourceTag/ray-cluster-name": own}
    role = by_name["GiveThemTheirRole"]["Resource"]
    assert role.replace(":role/", ":instance-profile/") == profile
    text = json.dumps(document)
    assert text.count(f":ec2:{config['provider']['region']}:") == text.count(":ec2:")


def test_the_image_is_not_run_as_root() -> None:
    users = [rest for name, rest in instructions(dockerfile()) if name == "USER"]
    assert users == ["1000"]


def test_the_image_gets_what_the_ignore_file_lets_through() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for name, rest in instructions(dockerfile()):
        if name == "COPY":
            copied.update(each for each in rest.split()[:-1] if not each.startswith("--"))
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


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


def test_the_guide_names_files_that_are_there() -> None:
    guide = (INFRA / "README.md").read_text()
    linked = set(re.findall(r"\]\(((?!http)[^)#]+)", guide))
    named = set(re.findall(r"(?<![\w/:-])infra/[\w./-]*\w", guide)) - {MINE}
    assert "infra/aws/cluster.yaml" in named
    missing = [each for each in named if not (ROOT / each).exists()]
    missing += [each for each in linked if not (INFRA / each).exists()]
    assert missing == []


def dockerfile() -> str:
    return (INFRA / "Dockerfile").read_text()

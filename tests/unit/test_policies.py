"""The policies of infra/iam: valid documents that allow no more kinds of action than are made."""

import json
import re
from string import Template
from typing import Any

import pytest

from tests.identities import POLICIES, policy

JOBS = ("audit", "ingest", "reconstruct", "train", "verify")
PLACES = {"INPUT": "s3://one/in", "OUTPUT": "s3://two/out", "MODEL": "s3://three/model"}
ALLOWED = {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
MOST_CHARACTERS = 6144  # of a managed policy, without white space


def listed(value: Any) -> list[str]:  # noqa: ANN401 - a text or a list of them
    return [value] if isinstance(value, str) else value


def statements(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(policy(job, PLACES))["Statement"]
    return found


def test_there_is_one_for_every_job() -> None:
    assert sorted(path.stem for path in POLICIES.glob("*.json")) == sorted(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_a_policy_is_a_valid_document(job: str) -> None:
    document = json.loads(policy(job, PLACES))
    assert document.keys() == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    names = [each["Sid"] for each in document["Statement"]]
    assert len(names) == len(set(names))
    assert all(name.isalnum() for name in names)
    assert len("".join(json.dumps(document).split())) < MOST_CHARACTERS


@pytest.mark.parametrize("job", JOBS)
def test_a_statement_names_a_place_and_what_is_done_there(job: str) -> None:
    for each in statements(job):
        actions, resources = set(listed(each["Action"])), listed(each["Resource"])
        assert each["Effect"] == "Allow"
        assert actions <= ALLOWED
        assert each.keys() - {"Condition"} == {"Sid", "Effect", "Action", "Resource"}
        if actions == {"s3:ListBucket"}:
            (bucket,) = resources
            assert re.fullmatch(r"arn:aws:s3:::(one|two|three)", bucket)
            prefixes = listed(each["Condition"]["StringLike"]["s3:prefix"])
            assert set(prefixes) <= {"in", "in/*", "out/*", "model/*"}
        else:
            assert "s3:ListBucket" not in actions
            assert "Condition" not in each
            place = r"arn:aws:s3:::(one/in|two/out/.+|three/model/\*|one/in/\*)"
            assert all(re.fullmatch(place, resource) for resource in resources)


@pytest.mark.parametrize("job", JOBS)
def test_only_the_output_is_written_to(job: str) -> None:
    for each in statements(job):
        if {"s3:PutObject", "s3:DeleteObject"} & set(listed(each["Action"])):
            assert job != "verify"
            assert all("two/out/" in resource for resource in listed(each["Resource"]))
        if "s3:DeleteObject" in listed(each["Action"]):
            assert "arn:aws:s3:::two/out/*" not in listed(each["Resource"])


@pytest.mark.parametrize("job", JOBS)
def test_placeholders_are_those_that_are_documented(job: str) -> None:
    text = (POLICIES / f"{job}.json").read_text()
    documented = set(
        re.findall(r"\b[A-Z]+_(?:BUCKET|PREFIX)\b", (POLICIES / "README.md").read_text())
    )
    assert set(Template(text).get_identifiers()) <= documented

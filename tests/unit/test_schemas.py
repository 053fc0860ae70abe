"""The tables: what readers rely on."""

import json

import pyarrow as pa
import pytest

from redaction_core import schemas

KINDS = {"name": "string", "year": "int64", "share": "float64", "good": "bool"}


def test_metrics_begin_with_key_and_status_and_end_with_seconds() -> None:
    names = schemas.METRICS.names
    assert names[:4] == ["key", "status", "failure", "detail"]
    assert names[-1] == "seconds"
    assert len(names) == len(set(names))


def test_only_identity_is_required() -> None:
    required = {field.name for field in schemas.METRICS if not field.nullable}
    assert required == {"key", "status"}
    required = {field.name for field in schemas.PLAN_PART if not field.nullable}
    assert required == {"key", "size", "version"}


def test_of_a_data_set_everything_but_what_may_be_missing_is_required() -> None:
    required = {field.name for field in schemas.FAILURES if not field.nullable}
    assert set(schemas.FAILURES.names) - required == {"detail", "http_status"}
    assert all(not field.nullable for field in (*schemas.CONTENTS, *schemas.NEAR_DUPLICATES))
    images = schemas.dataset(KINDS, labels=True)
    missing = {field.name for field in images if field.nullable}
    assert missing == {"image", "label", *KINDS, "duplicate_of"}


@pytest.mark.parametrize("labels", [True, False])
def test_a_data_set_s_columns_have_their_names_order_and_types(*, labels: bool) -> None:
    found = schemas.dataset(KINDS, labels=labels)
    assert found.names == [
        *("image", "image_id", "url", "source_sha256", "source_width", "source_height", "split"),
        *(["label"] if labels else []),
        *("name", "year", "share", "good", "duplicate_of"),
    ]
    assert found.field("image").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    assert [found.field(name).type for name in KINDS] == [
        *(pa.string(), pa.int64(), pa.float64(), pa.bool_()),
    ]


def test_hugging_face_s_libraries_are_told_what_every_column_is() -> None:
    found = schemas.dataset(KINDS, labels=True)
    told = json.loads(found.metadata[b"huggingface"])["info"]["features"]
    assert list(told) == found.names
    assert told["image"] == {"_type": "Image"}
    kinds = {name: each["dtype"] for name, each in told.items() if name != "image"}
    assert {each["_type"] for name, each in told.items() if name != "image"} == {"Value"}
    assert kinds == dict.fromkeys(found.names[1:], "string") | {
        "source_width": "int32",
        "source_height": "int32",
        "year": "int64",
        "share": "float64",
        "good": "bool",
    }


def test_the_libraries_understand_what_they_are_told() -> None:
    from datasets import Features, Image, Value

    found = schemas.dataset(KINDS, labels=True)
    features = Features.from_arrow_schema(found)
    assert features["image"] == Image()
    assert features["share"] == Value("float64")
    assert features["good"] == Value("bool")
    assert list(features) == found.names


def test_carried_columns_give_way_to_ours() -> None:
    columns = dict.fromkeys(
        ("title", "split", "list_split", "image", "duplicate_of", "list_list_split"), "string"
    )
    names = schemas.column_names(columns, labels=False)
    assert names == {
        "title": "title",
        "split": "list_split",
        "list_split": "list_list_split",
        "image": "list_image",
        "duplicate_of": "list_duplicate_of",
        "list_list_split": "list_list_list_split",
    }
    schema = schemas.dataset(dict.fromkeys(names.values(), "string"), labels=False)
    assert len(set(schema.names)) == len(schema.names)
    names = schemas.column_names({"list_split": "string", "split": "string"}, labels=False)
    assert names == {"list_split": "list_split", "split": "list_list_split"}


@pytest.mark.parametrize(("labels", "name"), [(True, "list_label"), (False, "label")])
def test_label_is_taken_where_the_source_has_labels(name: str, *, labels: bool) -> None:
    assert schemas.column_names({"label": "int64"}, labels=labels) == {"label": name}


def test_names_that_readers_stumble_over_are_changed() -> None:
    given = dict.fromkeys(["a\x00b", "\x01", "image.bytes", "url", "ü"], "string")
    names = schemas.column_names(given, labels=False)
    assert list(names.values()) == ["ab", "column", "list_image.bytes", "list_url", "ü"]

"""The tables: what readers rely on."""

from redaction_core import schemas


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

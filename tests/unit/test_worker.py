"""Where the process that runs a deadly shard is put."""

from jobs._worker import DEATHS, place_apart

NODES = (
    {"NodeID": "head", "Alive": True, "Resources": {"memory": 1.0}},
    {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 1.0}},
    {"NodeID": "here", "Alive": True, "Resources": {"CPU": 1.0}},
    {"NodeID": "there", "Alive": True, "Resources": {"CPU": 1.0}},
)


def test_a_deadly_shard_runs_beside_its_parent_first() -> None:
    assert place_apart(2 * DEATHS - 1, "here", NODES) == "here"


def test_one_that_takes_down_its_parent_runs_on_another_machine_that_works() -> None:
    assert place_apart(2 * DEATHS, "here", NODES) == "there"
    assert place_apart(2 * DEATHS, "here", NODES[:3]) == "here"

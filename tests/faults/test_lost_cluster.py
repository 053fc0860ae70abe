"""A cluster that loses its head while a job runs: on another one, the same submission ends it."""

import os
import subprocess
import sys
from pathlib import Path

from redaction_core.embedded_s3 import EmbeddedS3
from redaction_core.storage import open_store
from tests.command import ROOT, Command, run
from tests.faults.harness import IMAGES, Reconstruction
from tests.faults.storms import audited
from tests.local_cluster import local_cluster, wait_until

SUBJECT = Reconstruction()
SHARDS = IMAGES // 2


def commits(output: str) -> int:
    return sum(1 for _ in open_store(output).list("commits/", missing_ok=True))


def test_a_run_that_lost_its_head_says_so_and_is_ended_by_another_cluster(
    s3_server: EmbeddedS3, s3_location: str, tmp_path: Path
) -> None:
    SUBJECT.write(open_store(s3_location))
    output = f"{s3_location}/out"
    flags = [*SUBJECT.flags(s3_location), "--shard-size", "2", "--max-failure-rate", "0.1"]
    flags = [*flags, "--workers", "1", "--output", output]
    with local_cluster(s3_server.environment) as cluster:
        cluster.add()
        environment = cluster.environment
        command = Command.start(
            tmp_path / "first", *flags, verb=SUBJECT.verb, environment=environment
        )
        wait_until(lambda: commits(output) > 1)
        cluster.kill(0)
        ended = command.wait()
    assert ended.code == 1
    assert ended.stderr.splitlines()[-1].startswith("error: the Ray cluster at "), ended.stderr
    assert "Traceback" not in ended.stderr
    done = commits(output)
    assert done < SHARDS

    with local_cluster(s3_server.environment) as cluster:
        cluster.add()
        again = run(tmp_path / "again", *flags, verb=SUBJECT.verb, environment=cluster.environment)
    assert again.code == 0, again.stderr
    assert f"{done} of {SHARDS} shards are done already" in again.stderr
    SUBJECT.check(output)
    assert audited(output) == []


TASKS_FOR_SIX = """
import pathlib, sys, threading, time
import ray
from jobs._cluster import join_cluster
from jobs._shards import map_tasks

def work(number, folder=pathlib.Path(sys.argv[1])):
    (folder / f"begun-{number}").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    return number

def go_on_with_three(folder=pathlib.Path(sys.argv[1])):
    while ray.cluster_resources()["CPU"] != 3:
        time.sleep(0.05)
    (folder / "go").touch()

join_cluster()
threading.Thread(target=go_on_with_three, daemon=True).start()
print(sorted(map_tasks(work, range(12))), file=sys.stderr)
"""


def test_tasks_of_a_lost_machine_are_done_by_those_that_are_left(tmp_path: Path) -> None:
    with local_cluster() as cluster:
        cluster.add(cpus=0)
        cluster.add(cpus=3)
        cluster.add(cpus=3)
        command = [sys.executable, "-c", TASKS_FOR_SIX, str(tmp_path)]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **cluster.environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 6)
        cluster.kill(2)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, f"{list(range(12))}\n")


ROOM_OF_THE_DEAD = """
import sys
import ray
from jobs._cluster import join_cluster
from jobs._training import give_back_room

class Controller:
    def start(self):
        group = ray.util.placement_group([{"CPU": 1}] * 2)
        ray.get(group.ready())

join_cluster()
controller = ray.remote(num_cpus=0)(Controller).remote()
ray.get(controller.start.remote())
ray.kill(controller)
give_back_room()
ray.get(ray.util.placement_group([{"CPU": 1}] * 2).ready(), timeout=60)
print("there is room", file=sys.stderr)
"""


def test_room_that_a_dead_controller_asked_for_is_given_back() -> None:
    with local_cluster() as cluster:
        cluster.add(cpus=2)
        command = [sys.executable, "-c", ROOM_OF_THE_DEAD]
        environment = {**os.environ, **cluster.environment}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    assert ended.stderr.splitlines()[-1] == "there is room", ended.stderr


A_MACHINE_A_TRY = """
import os, signal, sys, time
from jobs._cluster import join_cluster
from jobs._worker import _DIED, DEATHS, _Process

class Work:
    def run(self, inputs):
        if inputs == ["deadly"]:
            # As where a machine's memory is full, and all of it is ended.
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return inputs

join_cluster()
process = _Process(lambda gpu: Work(), 2 * DEATHS)
try:
    process.run(["deadly"])
except _DIED:
    print("died", file=sys.stderr)
print(process.run(["harmless"]), file=sys.stderr)
"""


def test_a_machine_that_an_input_took_down_is_asked_no_more() -> None:
    with local_cluster() as cluster:
        cluster.add()
        cluster.add()
        command = [sys.executable, "-c", A_MACHINE_A_TRY]
        environment = {**os.environ, **cluster.environment}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    assert ended.stderr.splitlines()[-2:] == ["died", "['harmless']"], ended.stderr
    assert ended.returncode == 0

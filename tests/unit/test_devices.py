"""Another device than the CPU gets all that it computes with: see `tests.other_device`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from redaction_core.errors import UsageError
from redaction_core.inference import is_out_of_memory, settle_gpus
from redaction_core.loading import Task
from redaction_core.reconstruction import open_restorer
from redaction_core.storage import open_store
from tests.unit.elsewhere import NETWORKS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.unit.elsewhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_device_refuses_tensors_of_the_cpu(elsewhere: dict[str, Any]) -> None:
    assert "takes tensors of one device" in elsewhere["mixed"]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_elsewhere_is_that_of_the_cpu(elsewhere: dict[str, Any], network: str) -> None:
    trained = elsewhere["trained"][network]

    assert trained["other"] == pytest.approx(trained["cpu"], rel=1e-4)
    assert elsewhere["models"][network] == network


@pytest.mark.parametrize("devices", ["other cpu", "cpu other"])
def test_a_checkpoint_goes_from_device_to_device(elsewhere: dict[str, Any], devices: str) -> None:
    trained = elsewhere["trained"]["enhancer"]

    assert trained[devices] == pytest.approx(trained["cpu"], rel=1e-4)


def test_results_and_redactions_elsewhere_are_those_of_the_cpu(elsewhere: dict[str, Any]) -> None:
    assert len(elsewhere["restored"]) == 8
    assert len(elsewhere["redacted"]) == 6
    assert all(elsewhere["restored"].values()), elsewhere["restored"]
    assert all(elsewhere["redacted"].values()), elsewhere["redacted"]


def test_gpus_compute_in_the_precision_that_was_asked_for() -> None:
    settle_gpus()

    assert torch.backends.cudnn.conv.fp32_precision != "tf32"
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_gpu_without_memory_is_recognised(error: RuntimeError) -> None:
    assert is_out_of_memory(error)


def test_a_gpu_that_failed_otherwise_is_not_taken_for_a_full_one() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")
def test_a_gpu_that_torch_cannot_use_is_told_in_one_line(tmp_path: Path) -> None:
    task = Task(inputs=open_store(str(tmp_path)), outputs=None, network="enhancer")

    with pytest.raises(UsageError, match=r"\Atorch [^\n]+--gpus-per-worker 0\Z"):
        open_restorer(task, gpu=True, precision="auto", threads=1)

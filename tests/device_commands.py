"""What `tests.gpu_check` asks of the real commands, on one device and from one to the other."""

import io
import json
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from redaction_core.images import encode
from tests.command import Command, Ended, Output, run
from tests.device_checks import ON, Check, Device, Found, NotMetError, levels_apart, losses_apart
from tests.unit.training_group import history_of, model_bytes
from tests.unit.training_sets import smooth_images, write_data_set

_TRAIN = (
    *("--network", "enhancer", "--architecture", "width=8", "blocks=1", "--redact", "pixelate:4"),
    *("--crop", "16", "--batch-size", "4", "--epochs", "2", "--repeats", "30"),
    *("--precision", "float32", "--cpus-per-worker", "1", "--checkpoint-every-s", "0"),
)
_AUDIT = ("--redactions", "pixelate:4,8", "blur:2", "box:0.05@center", "--shard-size", "4")
_RECOVERED_OFF = 0.005
"""How far a share that is recovered may be off."""
_POLL_S = 0.02
_LIMIT_S = 900


def checks() -> Iterator[Check]:
    """Give all that is done by commands."""
    for device in ON:
        gpus, on = int(device == "gpu"), f"on {ON[device]}"
        for name, check in (
            (f"train, one worker {on}", _trained),
            (f"train, the same again {on}", _trained_again),
            (f"train, two workers by {'NCCL' if gpus else 'gloo'}", _trained_by_two),
            (f"reconstruct {on}", _reconstructed),
            (f"reconstruct, the same again {on}", _reconstructed_again),
            (f"audit {on}", _audited),
        ):
            needed = 2 * gpus if check is _trained_by_two else gpus
            yield Check(name=name, gpus=needed, run=partial(check, device))
    for first in ON:
        for then in ON:
            name = f"train, killed on {ON[first]}, resumed on {ON[then]}"
            yield Check(
                name=name, gpus=int("gpu" in (first, then)), run=partial(_resumed, first, then)
            )
    name = "reconstruct, two workers on one GPU"
    yield Check(name=name, gpus=1, run=_reconstructed_by_halves)
    name = "reconstruct in bfloat16 on a GPU"
    yield Check(name=name, gpus=1, run=_reconstructed_in_bfloat16)


def _command(folder: Path, verb: str, name: str, *flags: str) -> Ended:
    """Run a command to its end, into a folder of that name."""
    ended = run(
        folder / f"{name}-log",
        *flags,
        *("--output", str(folder / name)),
        verb=verb,
        limit_s=_LIMIT_S,
    )
    if ended.code:
        raise NotMetError(f"exit code {ended.code}: {' '.join(ended.stderr.split())[-400:]}")
    return ended


def _train(folder: Path, device: Device, name: str, *flags: str) -> Path:
    """Train into a folder of that name, unless it is there."""
    output = folder / name
    if not output.exists():
        _command(folder, "train", name, *_train_flags(folder, device), *flags)
    return output


def _train_flags(folder: Path, device: Device) -> Sequence[str]:
    data = folder / "faces"
    if not data.exists():
        write_data_set(str(data), smooth_images(32, 16))
    return ("--data", str(data), *_TRAIN, "--device", device, "--workers", "1")


def _losses(output: Path) -> list[float]:
    return [
        loss
        for each in history_of(output).epochs
        for loss in (each.train_loss or 0.0, each.val["loss"])
    ]


def _trained(device: Device, folder: Path) -> Found:
    output = _train(folder, device, f"train-{device}")
    if device == "gpu":
        return losses_apart(_losses(output), _losses(_train(folder, "cpu", "train-cpu")))
    first, *_, last = _losses(output)[::2]
    return Found(figure=f"loss {first:.5f}, then {last:.5f}", bar="falls", passed=last < first)


def _trained_again(device: Device, folder: Path) -> Found:
    """On the CPU bit for bit; gradients on GPUs are added up in any order."""
    one, other = (_train(folder, device, f"train-{device}{again}") for again in ("", "-again"))
    return _alike(one, other, exactly=device == "cpu")


def _alike(one: Path, other: Path, *, exactly: bool) -> Found:
    same = model_bytes(one) == model_bytes(other)
    bytes_are = "the same bytes" if same else "other bytes"
    if exactly:
        return Found(figure=bytes_are, bar="the same bytes", passed=same)
    found = losses_apart(_losses(other), _losses(one))
    return Found(figure=f"{found.figure}, {bytes_are}", bar=found.bar, passed=found.passed)


def _trained_by_two(device: Device, folder: Path) -> Found:
    alone = _train(folder, device, f"train-{device}")
    together = _train(folder, device, f"train-{device}-two", "--workers", "2")
    return losses_apart(_losses(together), _losses(alone))


def _resumed(first: Device, then: Device, folder: Path) -> Found:
    """Interrupt a training after its first checkpoint, and go on with it."""
    name = f"train-{first}-{then}"
    output = folder / name
    flags = (*_train_flags(folder, first), "--output", str(output))
    running = Command.start(folder / f"{name}-killed", *flags, verb="train")
    ends = time.monotonic() + _LIMIT_S
    while not list(output.glob("checkpoints/*.json")):
        if running.process.poll() is not None or time.monotonic() > ends:
            raise NotMetError(f"no checkpoint: {running.wait(1).stderr[-400:]}")
        time.sleep(_POLL_S)
    running.process.send_signal(signal.SIGINT)
    running.wait(_LIMIT_S)
    if (output / "_SUCCESS").exists():
        raise NotMetError("the training ended before it could be interrupted")
    ended = _command(folder, "train", name, *_train_flags(folder, then), "--resume")
    if "going on after step" not in ended.stderr:
        raise NotMetError("it began anew, not from the checkpoint")
    whole = _train(folder, "cpu", "train-cpu")
    return _alike(whole, output, exactly=(first, then) == ("cpu", "cpu"))


def _photographs(folder: Path) -> Path:
    """Write pieces of photographs, gray and in colour."""
    place = folder / "photographs"
    if not place.exists():
        place.mkdir()
        for name in ("camera", "astronaut", "coffee", "moon"):
            image = getattr(skimage.data, name)()
            for number in range(4):
                piece = image[16 * number : 16 * number + 128 + number % 2, 120:248]
                (place / f"{name}-{number}.png").write_bytes(
                    encode(np.ascontiguousarray(piece), "png")
                )
    return place


def _reconstruct(folder: Path, name: str, gpus: float, *flags: str) -> Path:
    """Pixelate and restore photographs into a folder of that name, unless it is there."""
    output = folder / name
    if not output.exists():
        source = ("--input", str(_photographs(folder)), "--redact", "pixelate:4")
        how = ("--gpus-per-worker", f"{gpus:g}", "--shard-size", "4", "--precision", "float32")
        _command(folder, "reconstruct", name, *source, *how, "--workers", "1", *flags)
    return output


def _images(output: Path) -> dict[str, bytes]:
    found = Output.read(str(output))
    if len(found.images) != 16 or any(row["status"] != "ok" for row in found.rows):
        raise NotMetError(f"{len(found.images)} of 16 images came back")
    return found.images


def _apart(one: Path, other: Path, precision: str = "float32") -> Found:
    pixels = [
        [
            torch.from_numpy(np.array(Image.open(io.BytesIO(data))))
            for _, data in sorted(_images(each).items())
        ]
        for each in (one, other)
    ]
    return levels_apart(list(zip(*pixels, strict=True)), precision)  # type: ignore[arg-type]


def _same_images(one: Path, other: Path) -> Found:
    first, second = _images(one), _images(other)
    same = sum(first[key] == second.get(key) for key in first)
    return Found(
        figure=f"{same} files of {len(first)} with the same bytes",
        bar="all",
        passed=same == len(first),
    )


def _reconstructed(device: Device, folder: Path) -> Found:
    output = _reconstruct(folder, f"restored-{device}", int(device == "gpu"))
    if device == "gpu":
        return _apart(_reconstruct(folder, "restored-cpu", 0), output)
    return Found(figure=f"{len(_images(output))} images of 16", bar="all", passed=True)


def _reconstructed_again(device: Device, folder: Path) -> Found:
    gpus = int(device == "gpu")
    one, other = (_reconstruct(folder, f"restored-{device}{end}", gpus) for end in ("", "-again"))
    return _same_images(one, other)


def _reconstructed_by_halves(folder: Path) -> Found:
    halves = _reconstruct(folder, "restored-halves", 0.5, "--workers", "2")
    return _same_images(_reconstruct(folder, "restored-gpu", 1), halves)


def _reconstructed_in_bfloat16(folder: Path) -> Found:
    output = _reconstruct(folder, "restored-bfloat16", 1, "--precision", "bfloat16")
    return _apart(_reconstruct(folder, "restored-cpu", 0), output, "bfloat16")


def _audit(folder: Path, name: str, gpus: int) -> list[float]:
    """Audit photographs, unless it is done; gives what is recovered under each redaction."""
    if not (folder / name).exists():
        flags = ("--images", str(_photographs(folder)), *_AUDIT, "--precision", "float32")
        _command(folder, "audit", name, *flags, "--workers", "1", "--gpus-per-worker", str(gpus))
    told = json.loads((folder / name / "audit.json").read_text())["redactions"]
    return [each["means"]["recovered"]["value"] for each in told]


def _audited(device: Device, folder: Path) -> Found:
    expected = _audit(folder, "audit-cpu", 0)
    if device == "cpu":
        figure = f"{min(expected):.3f} recovered at least, of {len(expected)} redactions"
        return Found(figure=figure, bar="more than none", passed=min(expected) > 0)
    found = _audit(folder, "audit-gpu", 1)
    off = max(abs(one - other) for one, other in zip(found, expected, strict=True))
    figure, bar = f"recovered shares {off:.5f} off", f"{_RECOVERED_OFF:g}"
    return Found(figure=figure, bar=bar, passed=off <= _RECOVERED_OFF)

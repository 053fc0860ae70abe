"""Model directories: round trips, and one line for every kind of damage."""

import io
import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from redaction_core.checkpoints import CONFIG, WEIGHTS, load_model, save_model, shipped
from redaction_core.errors import CheckpointError
from redaction_core.models import BUILDERS
from redaction_core.models.enhancer import Enhancer
from tests.unit.networks import small, wild

ARCHITECTURES: dict[str, dict[str, int]] = {
    "enhancer": {"width": 8, "blocks": 2},
    "redacto": {"width": 8, "blocks": 2, "coarse_width": 12, "coarse_blocks": 1},
}


def saved(folder: Path, name: str = "enhancer") -> str:
    config = {
        "network": name,
        "architecture": ARCHITECTURES.get(name, {}),
        "training": {"steps": 3},
    }
    save_model(str(folder), small(name), config)
    return str(folder)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_saved_model_comes_back(tmp_path: Path, name: str) -> None:
    model = load_model(saved(tmp_path / "new" / "model", name), expected=name)

    assert model.name == name
    assert model.config["training"] == {"steps": 3}
    assert not model.network.training
    for key, value in small(name).state_dict().items():
        found = model.network.state_dict()[key]
        assert found.dtype == torch.float32
        assert torch.equal(found, value.half().float()), key


def test_the_hash_is_of_everything_in_the_directory(tmp_path: Path) -> None:
    first = load_model(saved(tmp_path / "a")).sha256
    again = load_model(saved(tmp_path / "b")).sha256
    save_model(
        str(tmp_path / "c"),
        small("enhancer"),
        {"network": "enhancer", "architecture": ARCHITECTURES["enhancer"]},
    )
    other = Enhancer(**ARCHITECTURES["enhancer"])
    wild(other, seed=1)
    save_model(str(tmp_path / "d"), other, json.loads((tmp_path / "a" / CONFIG).read_text()))

    assert first == again
    assert len(first) == 64
    assert len({first, *(load_model(str(tmp_path / name)).sha256 for name in "cd")}) == 3


@pytest.mark.parametrize("name", ["enhancer", "redacto", "redacto-baseline"])
def test_the_weights_that_ship_load(name: str) -> None:
    model = load_model(shipped(name), expected=name)

    assert all(bool(value.isfinite().all()) for value in model.network.state_dict().values())


def test_the_weights_that_ship_are_small() -> None:
    folder = Path(shipped("enhancer")).parent

    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4 * 2**20


def test_a_network_without_shipped_weights_says_so() -> None:
    with pytest.raises(CheckpointError, match="no weights come with enhancer-baseline: train it"):
        shipped("enhancer-baseline")


def pickled() -> bytes:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("unpickled",)

    return pickle.dumps(Evil())


def torch_saved() -> bytes:
    buffer = io.BytesIO()
    torch.save(small("enhancer").state_dict(), buffer)
    return buffer.getvalue()


Damage = Callable[[Path], object]


def damaged(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def config(**changes: object) -> Damage:
    content = {"network": "enhancer", "architecture": ARCHITECTURES["enhancer"]} | changes
    return damaged(CONFIG, json.dumps(content).encode())


def weights(name: str, value: torch.Tensor | None) -> Damage:
    content = {name: value.half() for name, value in small("enhancer").state_dict().items()}
    content.pop(name, None)
    return damaged(WEIGHTS, save(content | ({} if value is None else {name: value})))


def a_folder_instead(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


DAMAGES: dict[str, Damage] = {
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "weights are a folder": a_folder_instead,
    "empty weights": damaged(WEIGHTS, b""),
    "pickled weights": damaged(WEIGHTS, pickled()),
    "weights of torch.save": damaged(WEIGHTS, torch_saved()),
    "a header without end": damaged(WEIGHTS, b"\xff" * 64),
    "half of the weights": lambda folder: os.truncate(folder / WEIGHTS, 900),
    "a weight too few": weights("mosaic.enter.bias", None),
    "a weight too many": weights("more", torch.zeros(1)),
    "a weight of another shape": weights("mosaic.enter.bias", torch.zeros(9)),
    "a weight that is not finite": weights("mosaic.enter.bias", torch.full((8,), math.nan)),
    "empty config": damaged(CONFIG, b""),
    "config that is not JSON": damaged(CONFIG, b"{network: enhancer}"),
    "config that is not text": damaged(CONFIG, b"\xff\xfe\x00"),
    "config that is a list": damaged(CONFIG, b"[]"),
    "a huge config": damaged(CONFIG, b" " * (2**20 + 1)),
    "no network": config(network=None),
    "a list of networks": config(network=["enhancer"]),
    "an unknown network": config(network="better"),
    "another network": config(network="redacto"),
    "no architecture": config(architecture=None),
    "an unknown architecture": config(architecture={"depth": 3}),
    "a width that is text": config(architecture={"width": "8"}),
    "a width of nothing": config(architecture={"width": 0}),
    "a width below nothing": config(architecture={"width": -8}),
    "a width beyond memory": config(architecture={"width": 10**8}),
    "more layers than time": config(architecture={"blocks": 10**9}),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_one_line_that_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    monkeypatch.chdir(tmp_path)
    location = saved(tmp_path / "model")
    damage(Path(location))

    with pytest.raises(CheckpointError) as caught:
        load_model(location)

    text = str(caught.value)
    assert location in text
    assert "\n" not in text
    assert len(text) < len(location) + 300
    assert text[-1] != ":"
    assert not (tmp_path / "unpickled").exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"is no model directory: it needs .* and config.json"
    ):
        load_model(str(tmp_path / "nothing"))


def test_a_model_of_another_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds enhancer, not redacto"):
        load_model(saved(tmp_path), expected="redacto")

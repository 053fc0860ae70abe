"""Model directories: weights as safetensors, everything else as JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from redaction_core.errors import CheckpointError, InputError, ObjectMissingError
from redaction_core.models import BUILDERS, Network
from redaction_core.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_MAX_BYTES = 1 << 30
_LARGEST = 4096
"""Channels or blocks of a network that is read."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with its weights, and what identifies them."""

    name: str
    """Name of the network, a key of `BUILDERS`."""
    network: Network
    sha256: str
    """Hash over weights and config, in hexadecimal."""
    config: Mapping[str, Any]


def shipped(network: str) -> str:
    """Location of the weights that come with the package.

    Raises CheckpointError for a network that comes without.
    """
    place = resources.files("redaction_core") / "weights" / network
    if not (place / CONFIG).is_file():
        raise CheckpointError(
            f"no weights come with {network}: train it, and name its directory with --model"
        )
    return str(place)


def save_model(location: str, network: Network, config: Mapping[str, Any]) -> None:
    """Write a model directory; `config` holds at least `network` and `architecture`.

    Weights are stored as float16: half the size, at an error far below that of an 8-bit image.

    Raises:
        StorageError: storage fails.
        CheckpointError: a weight is not finite, or too large for float16.
    """
    weights = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in sorted(network.state_dict().items())
    }
    store = open_store(location)
    if odd := [name for name, value in weights.items() if not bool(value.isfinite().all())]:
        raise CheckpointError(
            f"{store.location} is not written: weights of {odd[0]} are not finite, the training "
            "diverged; start anew with a lower --learning-rate"
        )
    store.put(WEIGHTS, save(weights))
    store.put(CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def load_model(location: str, expected: str | None = None) -> Model:
    """Read a model directory from any storage; the network comes in float32, for inference.

    Raises CheckpointError when it is missing, damaged, or of another network than `expected`.
    """
    store = open_store(location)
    try:
        config_bytes = store.read(CONFIG, max_bytes=1 << 20).data
        weights_bytes = store.read(WEIGHTS, max_bytes=_MAX_BYTES).data
    except ObjectMissingError as error:
        raise CheckpointError(
            f"{store.location} is no model directory: it needs {WEIGHTS} and {CONFIG}"
        ) from error
    except InputError as error:
        raise CheckpointError(f"the model in {store.location}: {error.detail}") from error
    try:
        config = json.loads(config_bytes)
        network = _build(config, weights_bytes)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        # What torch says of missing and misshapen weights takes several lines.
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the model in {store.location} is damaged or of another version: {reason}"
        ) from error
    name = config["network"]
    if expected is not None and name != expected:
        raise CheckpointError(f"{store.location} holds {name}, not {expected}")
    digest = hashlib.sha256(weights_bytes + config_bytes).hexdigest()
    return Model(name=name, network=network.eval(), sha256=digest, config=config)


def _build(config: Mapping[str, Any], weights_bytes: bytes) -> Network:
    if config["network"] not in BUILDERS:
        raise ValueError(f"{config['network']!r} is no network")
    sizes = config["architecture"]
    builder = partial(BUILDERS[config["network"]], **sizes)
    # Layers take time to build even without memory.
    if any(int(size) > _LARGEST for size in sizes.values()):
        raise ValueError(f"its architecture has a size above {_LARGEST}")
    weights = {key: value.float() for key, value in load(weights_bytes).items()}
    # First without memory: a config may ask for more than there is.
    with torch.device("meta"):
        builder().load_state_dict(weights, assign=True)
    network = builder()
    network.load_state_dict(weights)
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise ValueError("its weights are not finite")
    return network

"""Small networks and pictures that several unit tests share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redaction_core.checkpoints import Model
from redaction_core.inference import Restorer
from redaction_core.models import Network
from redaction_core.models.baselines import EnhancerBaseline, RedactoBaseline
from redaction_core.models.enhancer import Enhancer
from redaction_core.models.redacto import Redacto
from redaction_core.redaction import Blur, Pixelate


def wild(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a say: as built, the last layers hardly change anything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 16
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)
    return network.eval()


def small(name: str) -> Network:
    """Build a network by name, narrow where its width is free, with wild weights."""
    network: Network
    match name:
        case "enhancer":
            network = Enhancer(width=8, blocks=2)
        case "redacto":
            network = Redacto(width=8, blocks=2, coarse_width=12, coarse_blocks=1)
        case "enhancer-baseline":
            network = EnhancerBaseline()
        case _:
            network = RedactoBaseline()
    wild(network)
    return network


def restorer(
    name: str, precision: torch.dtype = torch.float32, *, self_ensemble: bool = False
) -> Restorer:
    """Run a small network on the CPU."""
    model = Model(name=name, network=small(name), sha256="0" * 64, config={})
    return Restorer(
        model, device=torch.device("cpu"), precision=precision, self_ensemble=self_ensemble
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Random pixels, uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def holes(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Hidden pixels, bool (n, 1, height, width): a box each and some single pixels."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.rand(n, 1, height, width, generator=generator) < 0.1
    hidden[..., height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    return hidden


def enhanced(under_test: Restorer, images: Sequence[Tensor], how: Pixelate | Blur) -> list[Tensor]:
    """Give the images alone."""
    return [found.image for found in under_test.enhance(images, how)]


def filled(
    under_test: Restorer, images: Sequence[Tensor], hidden: Sequence[Tensor]
) -> list[Tensor]:
    """Give the images alone."""
    return [found.image for found in under_test.fill(images, hidden)]

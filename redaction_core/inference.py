"""A network on a device, from 8-bit images to 8-bit estimates.

Knows nothing of files: batches, precision, colour, large images, and memory that runs out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from redaction_core.errors import Failure, InputError
from redaction_core.models import FILLS_HOLES, Estimate
from redaction_core.models.starts import explain, start_of
from redaction_core.models.tiling import tiles
from redaction_core.redaction import Blur, Pixelate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redaction_core.checkpoints import Model
    from redaction_core.images import Pixels

_Item = TypeVar("_Item")

_TILE = 1024
_HALO = 128
_SHARED = 0.9
"""Of a shared GPU's memory: the rest goes to what each process needs before its first tensor."""
_LUMA = (0.299, 0.587, 0.114)
# The last one: CUBLAS_STATUS_ALLOC_FAILED, and that of cuDNN.
_NO_MEMORY = ("allocate memory", "out of memory", "insufficient memory", "status_alloc_failed")


def settle_gpus() -> None:
    """Have the GPUs of this process compute in float32 where they are told to, and alike each time.

    Left alone, convolutions in float32 take ten bits of what they multiply (TF32, from Ampere on),
    which costs the estimates that networks start from levels of 8 bits; and cuDNN may choose
    algorithms that add up in any order.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def share_gpu(fraction: float) -> None:
    """Take no more than a fraction of the GPU's memory, as other processes have their own of it.

    Else what one of them keeps for later would be missing to the others.
    """
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(_SHARED * fraction)


def best_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32."""
    if device.type == "cuda":
        # GPUs before Ampere emulate it, at a loss.
        gains = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if gains else torch.float32
    able = torch.cpu.get_capabilities()
    gains = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if gains else torch.float32


def undoes_blur(model: Model) -> bool:
    """Whether the network was trained to undo blur, as far as its config says for what it was."""
    if model.name in FILLS_HOLES:
        return False
    training = model.config.get("training")
    texts = training.get("redactions") if isinstance(training, dict) else None
    return not isinstance(texts, list) or any(str(text).startswith("blur:") for text in texts)


class Restoration(NamedTuple):
    """What became of one image, on the CPU."""

    image: Tensor
    """The estimate, uint8 (C, H, W)."""
    scale: Tensor | None
    """How far it may be off, a Laplace scale a pixel: float16 (1, H, W), errors being 0 to 1. Of
    colour images: of their luma, or the same for all colours where holes are filled. None: the
    network does not say."""


class Restorer:
    """Runs one model; not for use from several threads at once."""

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        precision: torch.dtype,
        self_ensemble: bool = False,
        project: bool = False,
    ) -> None:
        """Put a model on a device.

        With `project`, estimates are made to explain pixelated inputs, as `starts.explain` has it.

        With `self_ensemble`, holes are filled in the mirror image too, and the mean of both counts
        (Timofte et al. 2016, "Seven ways to improve example-based single image super resolution").
        """
        self.model = model
        self.self_ensemble = self_ensemble
        self.project = project
        self.fills_holes = model.name in FILLS_HOLES
        self.device = device
        self.precision = precision
        settle_gpus()
        # Convolutions run faster where the channels of a pixel lie side by side.
        self.network: nn.Module = model.network.to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    @torch.inference_mode()
    def enhance(self, images_u8: Sequence[Tensor], how: Pixelate | Blur) -> list[Restoration]:
        """Undo the pixelation or the blur of images of one size.

        Args:
            images_u8: uint8 (C, H, W), C 1 or 3.
            how: their block size and sampling, or their blur (where `undoes_blur`).

        Raises:
            InputError: out_of_memory, when a single image does not fit.

        """

        def run(batch: Sequence[Tensor]) -> list[Restoration]:
            images = torch.stack(tuple(batch)).to(self.device)
            return _apart(*self._enhance(images, how))

        return self._in_halves(run, images_u8)

    @torch.inference_mode()
    def fill(self, images_u8: Sequence[Tensor], hidden: Sequence[Tensor]) -> list[Restoration]:
        """Fill the hidden pixels of images of one size; known pixels come back bit for bit.

        Images whose known pixels are gray stay gray.

        Args:
            images_u8: uint8 (C, H, W), C 1 or 3.
            hidden: bool (1, H, W) each.

        Raises:
            InputError: out_of_memory, when a single image does not fit.

        """

        def run(batch: Sequence[tuple[Tensor, Tensor]]) -> list[Restoration]:
            images = torch.stack([image for image, _ in batch]).to(self.device)
            masks = torch.stack([mask for _, mask in batch]).to(self.device)
            return _apart(*self._fill(images, masks))

        return self._in_halves(run, list(zip(images_u8, hidden, strict=True)))

    def _in_halves(
        self, run: Callable[[Sequence[_Item]], list[Restoration]], batch: Sequence[_Item]
    ) -> list[Restoration]:
        try:
            return run(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the error's frames hold the tensors that did not fit.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            raise InputError(Failure.OUT_OF_MEMORY, f"one image does not fit on {self.device.type}")
        middle = len(batch) // 2
        return self._in_halves(run, batch[:middle]) + self._in_halves(run, batch[middle:])

    def _run(self, images: Tensor, how: Pixelate | Blur | Tensor) -> tuple[Tensor, Tensor | None]:
        """Give the network's estimate and its scales, both float32."""
        lower = self.precision != torch.float32
        with torch.autocast(self.device.type, dtype=self.precision, enabled=lower):
            estimate: Estimate = self.network(images, how)
        image, log_scale = estimate.image, estimate.log_scale
        if self.project and isinstance(how, Pixelate):
            image = explain(image, images, how)
        return image, None if log_scale is None else log_scale.exp()

    def _enhance(self, images_u8: Tensor, how: Pixelate | Blur) -> tuple[Tensor, Tensor | None]:
        height, width = images_u8.shape[-2:]
        # Tiles begin on the grids of the blocks and of the network's folding.
        grid = math.lcm(how.block, 8) if isinstance(how, Pixelate) else 8
        core, halo = (math.ceil(size / grid) * grid for size in (_TILE, _HALO))
        result, scales = torch.empty_like(images_u8), None
        for tile in tiles(height, width, core=core, halo=halo):
            seen = images_u8[..., tile.rows, tile.columns].float() / 255
            sharp, scale = self._sharpen(seen, how)
            kept, inner = (
                (..., tile.kept_rows, tile.kept_columns),
                (..., tile.inner_rows, tile.inner_columns),
            )
            result[kept] = _to_u8(sharp[inner])
            if scale is not None:
                if scales is None:
                    scales = _scales_like(images_u8)
                scales[kept] = scale[inner]
        return result, scales

    def _sharpen(self, seen: Tensor, how: Pixelate | Blur) -> tuple[Tensor, Tensor | None]:
        if seen.shape[1] == 1:
            return self._run(seen, how)
        # Luma by the network; colour differences, which the eye sees less sharply, from where it
        # starts, and put back on the means (or samples) of the blocks.
        smooth = explain(start_of(seen, how), seen, how)
        luma, scale = self._run(_luma(seen), how)
        return smooth + (luma - _luma(smooth)), scale

    def _fill(self, images_u8: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        images = images_u8.float() / 255
        known_gray = None
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        else:
            tinted = (images_u8 != images_u8[:, :1]) & ~hidden
            known_gray = ~tinted.flatten(1).any(1)
        filled, scale = self._run(images, hidden)
        if self.self_ensemble:
            other, other_scale = self._run(images.flip(-1), hidden.flip(-1))
            filled = (filled + other.flip(-1)) / 2
            if scale is not None and other_scale is not None:
                scale = (scale + other_scale.flip(-1)) / 2
        gray = filled.mean(1, keepdim=True)
        if known_gray is None:
            filled = gray
        else:
            filled = torch.where(known_gray.view(-1, 1, 1, 1), gray, filled)
        if scale is not None:
            scale = _scales_like(images_u8).copy_(scale)
        return torch.where(hidden, _to_u8(filled), images_u8), scale


def _scales_like(images_u8: Tensor) -> Tensor:
    # Half of float32, and fine enough for what is but an estimate.
    return torch.empty_like(images_u8[:, :1], dtype=torch.float16)


def _apart(images: Tensor, scales: Tensor | None) -> list[Restoration]:
    if scales is None:
        return [Restoration(image, None) for image in images.cpu()]
    return [Restoration(*pair) for pair in zip(images.cpu(), scales.cpu(), strict=True)]


def _luma(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor(_LUMA).view(3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _to_u8(images: Tensor) -> Tensor:
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of NumPy, torch or OpenCV says that memory was refused."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The others have no error class of their own. Where oneDNN lacks memory for its code, it
    # "could not create a primitive", and cannot from then on: that is no matter of one image.
    text = str(error).lower()
    return any(sign in text for sign in _NO_MEMORY)


def planes_of(pixels: Pixels) -> Tensor:
    """Uint8 HxW or HxWx3 to (1, H, W) or (3, H, W)."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # noqa: PLR2004 - HxW
    return torch.from_numpy(planes)


def pixels_of(image: Tensor) -> Pixels:
    """Uint8 (1, H, W) or (3, H, W), on the CPU, to HxW or HxWx3."""
    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return np.ascontiguousarray(pixels.numpy())

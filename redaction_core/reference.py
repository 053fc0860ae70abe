"""What is known without a network: the estimates that a restoration is compared with."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from redaction_core.models.tiling import tiles

_TILE_BLOCKS = 64
_HALO_BLOCKS = 4


def bicubic(pixelated_u8: npt.NDArray[np.uint8], block: int) -> npt.NDArray[np.uint8]:
    """Bicubic interpolation of the blocks: uint8 HxW or HxWx3, same shape, in bounded memory.

    Cubic convolution with a = -0.75, as PyTorch and OpenCV have it: of the usual ones, the kernel
    with the lowest error on block means (the network starts from a smoother one).
    """
    result = np.empty_like(pixelated_u8)
    core, halo = _TILE_BLOCKS * block, _HALO_BLOCKS * block
    for tile in tiles(*pixelated_u8.shape[:2], core=core, halo=halo):
        # Of 8-bit values, OpenCV would compute with weights of few bits.
        blocks = pixelated_u8[tile.rows, tile.columns][::block, ::block].astype(np.float32)
        size = (blocks.shape[1] * block, blocks.shape[0] * block)
        smooth = cv2.resize(blocks, size, interpolation=cv2.INTER_CUBIC)
        kept = smooth[tile.inner_rows, tile.inner_columns]
        result[tile.kept_rows, tile.kept_columns] = cv2.convertScaleAbs(kept.clip(0, 255))
    return result


def surroundings(
    image_u8: npt.NDArray[np.uint8], hidden: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Fill every hole with the mean of the ring of known pixels that touch it.

    uint8 HxW or HxWx3, and bool HxW, to uint8 of the image's shape. A hole is a set of hidden
    pixels connected by sides or corners; one without a ring of its own, because a larger-numbered
    neighbour shares all of it, takes the mean of all rings.
    """
    count, labels = cv2.connectedComponents(hidden.astype(np.uint8), connectivity=8)
    # The largest label within one pixel; float32 is exact up to 2**24 holes, beyond that merged.
    near = cv2.dilate(labels.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    ring = (near > 0) & ~hidden
    owners = near[ring]
    sizes = np.bincount(owners, minlength=count)
    filled = image_u8.reshape(*hidden.shape, -1).copy()
    for channel in range(filled.shape[2]):
        plane = filled[..., channel]
        sums = np.bincount(owners, weights=plane[ring], minlength=count)
        overall = sums.sum() / max(1, sizes.sum())
        means = np.divide(sums, sizes, out=np.full(count, overall), where=sizes > 0)
        plane[hidden] = np.rint(means)[labels[hidden]].astype(np.uint8)
    return filled.reshape(image_u8.shape)

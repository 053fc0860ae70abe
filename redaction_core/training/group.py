"""The workers of a run, and what they tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, kw_only=True)
class Group:
    """One worker's place among all of them; the process group is there if there are several."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this worker is the one that writes and tells."""
        return self.rank == 0

    def averaged(self, module: nn.Module, *, branches: bool) -> nn.Module:
        """Wrap a module so that its gradients are means over the workers; all must call it.

        `branches`: a step may use a part of it alone. To look for the rest costs time.
        """
        if self.world == 1:
            return module
        return DistributedDataParallel(
            module,
            find_unused_parameters=branches,
            gradient_as_bucket_view=True,
            forward_sync_buffers=False,  # they never change
        )

    def wait(self) -> None:
        """Wait until the device has done all that it was told: before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def sum(self, values: Tensor) -> Tensor:
        """Add up what every worker gives; all must call it."""
        if self.world == 1:
            return values
        moved = values.to(self.device, copy=True)
        dist.all_reduce(moved)
        return moved.to(values.device)

    def share(self, data: bytes) -> bytes:
        """Give every worker the bytes that the first one has; all must call it."""
        if self.world == 1:
            return data
        size = torch.tensor([len(data)], dtype=torch.int64, device=self.device)
        dist.broadcast(size, 0)
        count = int(size)
        if not count:
            return b""
        held = bytearray(data if self.leads else count)
        moved = torch.frombuffer(held, dtype=torch.uint8).to(self.device)
        dist.broadcast(moved, 0)
        return moved.cpu().numpy().tobytes()

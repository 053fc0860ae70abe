"""A device other than the CPU, for machines that have none: its tensors hold tensors of the CPU.

It computes what the CPU would, and refuses what a GPU refuses: an operation on tensors of two
devices, and NumPy's view of its memory. So whatever the code under test leaves on the wrong device
is an error, and all else gives the results of the CPU.

Of use to one process alone, before it computes any gradient: torch takes notice of devices once.
"""

from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    return_and_correct_aliasing,
)
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

_NAME: Final = "other"
_ATEN: Final = torch.ops.aten
_COPIES: Final = {_ATEN.copy_.default, _ATEN._to_copy.default}  # noqa: SLF001 - has no other name
"""What takes tensors of two devices on a GPU, too."""
_INDEXED: Final = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default}
"""What takes indices of the CPU on a GPU, too."""


class OtherTensor(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[Self], held: Tensor) -> Self:
        # Views of tensors are made in inference mode, too, and of that can only be its own.
        with torch.inference_mode(mode=False):
            made = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001 - as torch's guide has it
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=torch.device(_NAME, 0),
            )
        made.held = held
        return made

    def tolist(self) -> Any:  # noqa: ANN401 - numbers, nested
        return self.held.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = self.detach().clone()
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __repr__(self, *_: object) -> str:
        return f"{_NAME}: {self.held!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        return _run(func, args, kwargs or {})


class _Made(TorchDispatchMode):
    """Sees what has no tensor of the device among its arguments, as it makes one."""

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if torch.is_inference_mode_enabled() and func._can_decompose():  # noqa: SLF001
            # Where nothing is noted for gradients, operations come whole.
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


class _Module(_DummyBackendModule):
    """What torch asks of a device."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def other_device() -> tuple[torch.device, TorchDispatchMode]:
    """Make the device known; tensors can be moved to it inside of the context that is returned."""
    _setup_privateuseone_for_python_backend(_NAME, backend_module=_Module())
    # Else tensors would be made of numbers below all that Python sees.
    torch._C._set_only_lift_cpu_tensors(True)  # noqa: FBT003, SLF001 - as torch's own fake tensors do
    return torch.device(_NAME, 0), _Made()


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    ours = any(isinstance(each, OtherTensor) for each in tensors)
    checked = tensors[:1] if func in _INDEXED else tensors
    # A number may come as a tensor of the CPU.
    if ours and func not in _COPIES:
        for each in checked:
            if each.dim() and not isinstance(each, OtherTensor):
                raise RuntimeError(f"{func} takes tensors of one device, not of two")
    device = kwargs.get("device")
    made = ours if device is None else torch.device(device).type == _NAME
    if not ours and not made:
        return func(*args, **kwargs)
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    held = tree_map_only(OtherTensor, lambda each: each.held, (args, kwargs))
    with _disable_current_modes():
        found = func(*held[0], **held[1])
    if not made:
        return found
    found = tree_map_only(Tensor, OtherTensor, found)
    return return_and_correct_aliasing(func, args, kwargs, found)

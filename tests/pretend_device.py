"""A second device, `pretend`, for machines that have a CPU only.

Its tensors keep their values in the CPU's memory and compute there, so results can be compared bit for bit. But torch
takes them for another device's: to mix them with the CPU's is the error that it would be on a GPU, and what crosses
between the two is counted, because each value that is read back makes the program wait for a GPU.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = "pretend"
CPU = torch.device("cpu")
# Of these torch takes tensors of two devices.
MIXING = {"to", "_to_copy", "copy_", "type_as", "index", "index_put_", "_index_put_impl_"}
READING = {"item", "_local_scalar_dense", "equal", "nonzero", "is_nonzero"}


class PretendTensor(torch.Tensor):
    """A tensor of the device; `values` are on the CPU, and views share theirs with what they look at."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: torch.Tensor):
        # What is made in inference mode could not be a view of what was not.
        with torch.inference_mode(False):
            return torch.Tensor._make_wrapper_subclass(
                cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(),
                dtype=values.dtype, layout=values.layout, device=torch.device(NAME, 0),
            )

    def __init__(self, values: torch.Tensor):
        self.values = values

    def __repr__(self, **kwargs) -> str:
        return f"PretendTensor({self.values!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, Counter())


@contextmanager
def pretend_device() -> Iterator[Counter]:
    """Within it torch knows the device.

    Yields:
        How often something crossed: `to device`, `to host` (either may be a view or a copy), and `read`, a single value.
    """
    register()
    crossed = Counter()
    with _Functions(), _Operations(crossed):
        yield crossed


def register() -> None:
    """Tells torch the name, for the rest of the process."""
    if backend_registration._privateuse1_backend_name != NAME:
        backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())


class _Backend(backend_registration._DummyBackendModule):
    """What torch asks for where autocast is off, too."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return []


class _Operations(TorchDispatchMode):
    def __init__(self, crossed: Counter):
        super().__init__()
        self.crossed = crossed

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self.crossed)


class _Functions(TorchFunctionMode):
    """What torch does below its operations, where no mode can see it: Python's numbers into tensors."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _is_ours(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": CPU}).to(NAME)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[0], PretendTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in index)
            args = (args[0], index, *args[2:])
        return func(*args, **kwargs)


def _is_ours(device) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(func, args, kwargs, crossed: Counter):
    """Does the operation on the values, and says where its result lies."""
    name, flat = func.overloadpacket.__name__, tree_flatten((args, kwargs))[0]
    if name == "_has_compatible_shallow_copy_type":
        return False
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    others = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    if ours and name not in MIXING and any(tensor.ndim for tensor in others):
        found = ", ".join(f"{list(tensor.shape)} on {tensor.device}" for tensor in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {found}")

    there = _target(func, name, tensors, [value for value in flat if isinstance(value, torch.device)])
    values, options = tree_map_only(PretendTensor, lambda tensor: tensor.values, (args, kwargs))
    values, options = tree_map_only(torch.device, lambda device: CPU if _is_ours(device) else device, (values, options))
    if "pin_memory" in options:
        options["pin_memory"] = False
    result = func(*values, **options)
    _count(name, tensors, there, crossed)
    return tree_map_only(torch.Tensor, lambda tensor: _placed(tensor, there, ours, others), result)


def _target(func, name: str, tensors: list[torch.Tensor], devices: list[torch.device]) -> bool:
    """Whether the result is on our device."""
    if devices:
        return _is_ours(devices[0])
    if str(func) == "aten.to.other":
        return isinstance(tensors[1], PretendTensor)
    if name in MIXING:
        return isinstance(tensors[0], PretendTensor)
    return any(isinstance(tensor, PretendTensor) for tensor in tensors)


def _count(name: str, tensors: list[torch.Tensor], there: bool, crossed: Counter) -> None:
    ours = [isinstance(tensor, PretendTensor) for tensor in tensors]
    if name in READING and any(ours):
        crossed["read"] += 1
    elif name in ("to", "_to_copy") and ours[0] != there:
        crossed["to device" if there else "to host"] += 1
    elif name == "copy_" and ours[0] != ours[1]:
        crossed["to device" if ours[0] else "to host"] += 1
    elif name in MIXING and any(ours) and not all(ours) and any(tensor.ndim for tensor in tensors[1:]):
        crossed["to device"] += 1  # an index


def _placed(result: torch.Tensor, there: bool, ours: list[PretendTensor], others: list[torch.Tensor]) -> torch.Tensor:
    """The result as a tensor of its device; what was changed in place stays the tensor it was."""
    same = next((tensor for tensor in ours if tensor.values is result), None)
    if there and same is not None:
        return same
    if same is not None or (there and any(tensor is result for tensor in others)):
        result = result.clone()  # it crossed
    return PretendTensor(result) if there else result

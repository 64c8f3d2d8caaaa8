"""Several processes, one model: plain FSDP2 under torchrun. In a process on its own all of this does nothing.

`torchrun --standalone --nproc_per_node=8 -m hunyuan_foley_core train CONFIG`: each process keeps its shard of weights,
averages and optimiser, and takes its share of the batches of an update. Since whatever is random depends on the number of
the batch, any number of processes draws what one would.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..model import FoleyTransformer
from .errors import TrainingError


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Within it the processes that torchrun started work together, each on its own GPU where `device` is "cuda".

    Raises:
        TrainingError: the device is one certain GPU, which they would all use.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    kind, on_cpu = torch.device(device), "cpu:gloo"
    if kind.index is not None:
        raise TrainingError(f"The device is {device!r}.", "Several processes need one each.", "Say device=cuda.")
    if kind.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Flags and names are exchanged on the CPU, tensors where they are.
    dist.init_process_group(on_cpu if kind.type == "cpu" else f"{on_cpu},cuda:nccl")
    try:
        yield
        dist.all_reduce(torch.zeros(1))  # none leaves while another still needs it
    finally:
        dist.destroy_process_group()


def leave(status: int) -> NoReturn:
    """Ends one of several processes at once.

    With torch 2.11 and gloo every third one aborted while Python took itself down, all work done, and torchrun called that
    a failure.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def count() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that writes, logs and reports."""
    return count() == 1 or dist.get_rank() == 0


def shard(transformer: FoleyTransformer, device: str, *others: nn.Module) -> None:
    """Leaves each process its part of every parameter, gathered block by block when it is needed.

    Parameters are other objects afterwards: whoever collects them does it after this. Outside of the modules' forward
    methods they are shards (DTensors). Key names stay.

    Args:
        others: modules trained beside it, used through `forward` only.
    """
    if count() == 1:
        return
    # Here, because PyTorch before 2.6 has it elsewhere and one process does not need it.
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = dist.init_device_mesh(torch.device(device).type, (count(),))
    for block in (*transformer.triple_blocks, *transformer.single_blocks):
        fully_shard(block, mesh=mesh)
    # Not kept whole after a forward pass, as a root is by default: after one without a backward pass nothing would take
    # back what it gathered, and the next pass would compute with old weights.
    for module in (transformer, *others):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for block in transformer.triple_blocks:
        register_fsdp_forward_method(block, "text_keys_values")
    for name in ("empty_visual", "empty_sync"):
        _return_copies(transformer, name)
    for name in ("empty_visual", "empty_sync", "prepare", "denoise"):
        register_fsdp_forward_method(transformer, name)


def _return_copies(module: nn.Module, name: str) -> None:
    """Makes a method return no view of a gathered parameter, whose memory is taken back when the method returns."""
    method = getattr(module, name)
    setattr(module, name, lambda *inputs: method(*inputs).clone())


def check_sharded(parameters: dict[str, nn.Parameter]) -> None:
    """Raises TrainingError where several processes would each train parameters of their own."""
    if count() > 1 and not all(map(_is_sharded, parameters.values())):
        raise TrainingError(
            f"{count()} processes were started.", "This task trains in one.", "Start it without torchrun."
        )


def check_same(what: str, value: str) -> None:
    """Raises TrainingError unless all processes see the same; all have to ask."""
    values = everyones([value])
    if len(set(values)) > 1:
        raise TrainingError(
            f"The processes see different things as {what}: {', '.join(sorted(set(values)))}.", "Expected the same.",
            "Use a folder on a disk that all machines share.",
        )


def share(numbers: range) -> range:
    """Those of an update's batches that this process takes.

    Raises:
        TrainingError: they cannot be shared evenly.
    """
    if len(numbers) % count():
        raise TrainingError(
            f"loop.accumulate is {len(numbers)}, and {count()} processes share an update's batches.",
            "Expected a multiple of the number of processes.", f"Say loop.accumulate={count()}, or start fewer.",
        )
    return numbers if count() == 1 else numbers[dist.get_rank() :: count()]


def anyone(flag: bool) -> bool:
    """Whether `flag` is true in any process. All have to ask."""
    if count() == 1:
        return flag
    said = torch.tensor(int(flag))
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said)


def everyones(items: list) -> list:
    """The items of all processes. All have to ask."""
    if count() == 1:
        return items
    lists: list[list] = [[] for _ in range(count())]
    dist.all_gather_object(lists, items)
    return [item for one in lists for item in one]


def means(figures: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means over all processes of scalars that each has under the same names."""
    if count() == 1 or not figures:
        return figures
    stacked = torch.stack([value.detach().double().cpu() for value in figures.values()])
    dist.all_reduce(stacked)
    return dict(zip(figures, stacked / count()))


def _is_sharded(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def complete(tensor: Tensor) -> Tensor:
    """The whole of a tensor, in every process. All have to ask."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def whole(value: Any) -> Any:
    """The same nested dicts and lists with whole tensors, on the CPU if they were shards, for the first process.

    All have to ask; to the others shards become None, so that none but the first needs the memory.
    """
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    if not _is_sharded(value):
        return value
    tensor = value.full_tensor()
    return tensor.cpu() if first() else None


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that every process has, sharded as `like` is."""
    if not _is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def wait() -> None:
    """Until all processes are here."""
    if count() > 1:
        dist.barrier()

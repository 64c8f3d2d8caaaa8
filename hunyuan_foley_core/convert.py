"""Rewriting a checkpoint as safetensors, in the type it is to be kept in: one file for every tool, quick to map.

It goes tensor by tensor: whatever the size of the file, some hundred MB of memory are enough.
"""

import errno
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import first_bytes, quantization, tensor_file
from .checkpoint import TRANSFORMER, Component, extract, identify, read_state_dict, skeleton
from .errors import CheckpointError, NoRoomError, WrongFileError
from .tensor_file import Entry
from .whole_files import whole

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP8 = {"fp8_e4m3fn": False, "fp8_e4m3fn_scaled": True}  # and whether it has scales
CHOICES = (*DTYPES, *FP8)
FORMAT_VERSION = 1  # of what our metadata say of a conversion

Advance = Callable[[int, int], None]  # (bytes done, bytes in all); raising stops the conversion and leaves nothing


@dataclass(frozen=True)
class _Piece:
    """A tensor of the source and what becomes of it.

    Attributes:
        source: its key in the file.
        size: in bytes, as stored.
        dtype: to write it in.
        scale: to multiply it by first; None: it has none.
        quantised: whether to write it divided by a scale, and that beside it.
    """

    source: str
    size: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    scale: Tensor | None = None
    quantised: bool = False


Plan = dict[str, _Piece]  # by the key of the target


def convert(source: str | Path, target: str | Path, dtype: str | None = None, advance: Advance | None = None) -> None:
    """Writes the tensors of `source` to `target` as safetensors: under another name, verified, then renamed.

    The file says where it comes from: the source's name and SHA-256, and the settings. Files of torch versions before
    1.6 are read into memory as a whole.

    Args:
        dtype: one of `CHOICES` for the floating-point tensors; None: all as stored. fp8 holds the matrices of the
            transformer's blocks, with scales those of its linear layers; the rest is bf16 where it was float32, and as
            stored where it was smaller.

    Raises:
        CheckpointError: the source cannot be read, holds no network of ours or values that the type cannot hold; the
            target is the source, is no `.safetensors` name, or has not enough room. The source is never written to.
    """
    source, target = Path(source), Path(target)
    _check_target(source, target)
    tensors, config = read_state_dict(source)
    component = identify(tensors)
    if component is None:
        raise WrongFileError(
            f"{source.name} holds none of the five networks of HunyuanVideo-Foley.",
            "Expected the transformer, the DAC-VAE, Synchformer, SigLIP2 or CLAP.",
        )
    plan = _plan(component, tensors, config, dtype, source.name)
    del tensors  # and with them what is mapped of the file
    entries = _entries(plan)
    metadata = _metadata(source, component, config, dtype, plan)
    _check_room(target, tensor_file.size(entries, metadata))
    _write(target, entries, metadata | {"source_sha256": _sha256(source)}, _converted(source, plan, advance))


def _check_target(source: Path, target: Path) -> None:
    if target.suffix.lower() != ".safetensors":
        raise CheckpointError(f"The target is {target.name}.", "Expected a name ending in .safetensors.")
    if not target.parent.is_dir():
        raise CheckpointError(f"There is no folder {target.parent}.", "Expected one to write into.", "Make it first.")
    if target.is_dir():
        raise CheckpointError(
            f"The target {target} is a folder.", "Expected the name of a file to write.",
            f"Name one in it: {target / target.name}.",
        )
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(
            f"The target {target} is the source itself.", "Expected another file: the original is never touched.",
            "Choose another name.",
        )


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise _no_room(target, f"it has {free / 1e9:.1f} GB free and the file takes {needed / 1e9:.1f} GB")


def _no_room(target: Path, why: str) -> NoRoomError:
    return NoRoomError(
        f"The disk of {target} has no room: {why}.", "Expected room for the whole file.",
        "Make room, or choose another disk.",
    )


def _plan(component: Component, tensors: Mapping[str, Tensor], config: dict, dtype: str | None, name: str) -> Plan:
    """What becomes of each tensor; CheckpointError where the type does not suit the file, or the file is not whole."""
    if dtype in FP8 and component is not TRANSFORMER:
        raise CheckpointError(
            f"{name} holds the {component.title}.",
            "fp8 is for the transformer alone; the others are small and need more.", "Use bf16 or fp16.",
        )
    if dtype is None or component is not TRANSFORMER:
        wanted = DTYPES.get(dtype)
        return {
            key: _Piece(
                key, value.nbytes, tuple(value.shape), wanted if wanted and value.is_floating_point() else value.dtype
            )
            for key, value in tensors.items()
        }
    sources = {id(value): key for key, value in tensors.items()}
    needed = extract(component, dict(tensors), name)
    _check_not_fp8(needed, dtype, name)
    skeleton(component, needed, config, name=name)
    return {
        key: _transformer_piece(key, value, sources[id(value)], needed.get(quantization.scale_key(key)), dtype)
        for key, value in needed.items() if not key.endswith(quantization.SCALE)
    }


def _transformer_piece(key: str, value: Tensor, source: str, scale: Tensor | None, dtype: str) -> _Piece:
    scaled = FP8.get(dtype, False)
    if not value.is_floating_point():
        stored = value.dtype
    elif dtype in DTYPES:
        stored = DTYPES[dtype]
    elif quantization.serves(key, value.ndim, scaled):
        stored = torch.float8_e4m3fn
    else:
        stored = torch.bfloat16 if value.dtype.itemsize > 2 else value.dtype
    quantised = scaled and stored == torch.float8_e4m3fn
    kept = None if scale is None else scale.clone()  # of its own, because it would keep the file mapped
    return _Piece(source, value.nbytes, tuple(value.shape), stored, kept, quantised)


def _check_not_fp8(tensors: Mapping[str, Tensor], dtype: str, name: str) -> None:
    if dtype in FP8 and any(value.dtype in quantization.FP8 for value in tensors.values()):
        raise CheckpointError(
            f"{name} is fp8 already.",
            f"Expected weights in bf16, fp16 or fp32 to make {dtype} of; rounding twice is worse.",
            "Convert the original, or leave out --dtype to keep this one as it is.",
        )


def _entries(plan: Plan) -> dict[str, Entry]:
    entries = {key: Entry(piece.dtype, piece.shape) for key, piece in plan.items()}
    scaled = (key for key, piece in plan.items() if piece.quantised)
    return entries | {quantization.scale_key(key): Entry(torch.float32, ()) for key in scaled}


def _metadata(source: Path, component: Component, config: dict, dtype: str | None, plan: Plan) -> dict[str, str]:
    layers = [key.removesuffix(".weight") for key, piece in plan.items() if piece.quantised]
    settings = {"format_version": FORMAT_VERSION, "dtype": dtype or "as stored"}
    kept = {key: text for key, text in _stored_metadata(source).items() if key != quantization.HEADER}
    return kept | {
        "format": "pt", "model": component.title, "config": json.dumps(config),
        "source": source.name, "source_sha256": "0" * 64, "conversion": json.dumps(settings),
    } | (quantization.header(layers) if layers else {})


def _stored_metadata(source: Path) -> dict[str, str]:
    if source.suffix.lower() not in first_bytes.SAFETENSORS:
        return {}
    with safe_open(str(source), framework="pt") as file:
        return file.metadata() or {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _write(
    target: Path, entries: tensor_file.Entries, metadata: dict[str, str], tensors: Iterator[tuple[str, Tensor]]
) -> None:
    try:
        with whole(target, suffix="") as temporary:
            wrong = tensor_file.verify(temporary, entries, tensor_file.write(temporary, entries, metadata, tensors))
            if wrong:
                raise CheckpointError(
                    f"What was written to {target.parent} is not what is read back: {', '.join(wrong[:3])}.",
                    "Expected the same values.", "Check the disk, or choose another.",
                )
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise _no_room(target, "it filled up while the file was written") from error
        raise CheckpointError(
            f"{target} cannot be written: {getattr(error, 'strerror', None) or error}.",
            "Expected a folder to write into.", "Check that the folder may be written to, or choose another.",
        ) from error


def _converted(source: Path, plan: Plan, advance: Advance | None) -> Iterator[tuple[str, Tensor]]:
    """What is to be written, with no more of the source in memory than `BYTES_AT_ONCE` or its largest tensor."""
    done, total = 0, sum(piece.size for piece in plan.values())
    for keys in _groups(source, plan):
        tensors, _ = read_state_dict(source, {plan[key].source for key in keys}.__contains__)
        for key in keys:
            yield from _values(key, plan[key], tensors[plan[key].source], source.name)
            done += plan[key].size
            if advance is not None:
                advance(done, total)


def _groups(source: Path, plan: Plan) -> Iterator[list[str]]:
    is_mapped = source.suffix.lower() in first_bytes.SAFETENSORS or zipfile.is_zipfile(source)
    return tensor_file.groups({key: piece.size for key, piece in plan.items()}) if is_mapped else iter([list(plan)])


def _values(key: str, piece: _Piece, tensor: Tensor, name: str) -> Iterator[tuple[str, Tensor]]:
    if piece.scale is not None:
        tensor = quantization.dequantize(tensor, piece.scale)
    if piece.quantised:
        tensor, scale = quantization.quantize(tensor, piece.dtype)
        _check_range(key, scale, piece.dtype, name)
        yield quantization.scale_key(key), scale
    elif tensor.dtype != piece.dtype:
        _check_range(key, tensor, piece.dtype, name)
    yield key, tensor.to(piece.dtype)


def _check_range(key: str, tensor: Tensor, dtype: torch.dtype, name: str) -> None:
    largest = float(tensor.float().abs().amax()) if tensor.numel() else 0.0
    if not largest <= torch.finfo(dtype).max:
        raise CheckpointError(
            f"{name} has values up to {largest:g} in `{key}`.",
            f"{str(dtype)[6:]} holds values up to {torch.finfo(dtype).max:g}.",
            "Choose another type: bf16 holds them all.",
        )

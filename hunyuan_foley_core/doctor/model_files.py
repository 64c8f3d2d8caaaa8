"""Which networks lie in which files, told from keys, shapes and types alone: weights are not read."""

import json
import os
import pickle
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import first_bytes, places, small_model
from ..download.released import MODELS
from ..errors import DamagedFileError, FoleyError
from ..first_bytes import SAFETENSORS, TORCH

RELEASED = {(18, 36, 1536): "XXL", (12, 24, 1408): "XL"}  # multimodal blocks, unimodal blocks, width
NAMES = {
    file.saved_as + suffix: file.what for files in MODELS.values() for file in files
    for suffix in (*TORCH, *SAFETENSORS)
}
# What the standard library says of files that are none of the formats, or only in part.
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration, EOFError, MemoryError, OverflowError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)
MINOR = 0.05  # share of the parameters below which a type is not mentioned
# Other packs' networks have the keys of our VAE, SigLIP2 and CLAP, too; these two are nobody else's.
OURS_ALONE = ("transformer", "synchformer")
TOKENIZER_FOLDERS = ("foley", "text_encoders")


@dataclass(frozen=True)
class ModelFile:
    """A file that holds a network of ours, or was meant to.

    Attributes:
        size: in bytes.
        network: as `pipeline.ModelFiles` calls it; None where it cannot be told.
        what: in words.
        widths: of the features that it makes, or of those that a transformer takes, by the network that makes them.
        is_small: whether it came with this package.
        problem: what a loader would say of it, and its page; None where it is whole.
    """

    path: str
    size: int
    network: str | None
    what: str
    widths: dict[str, int]
    is_small: bool
    problem: str | None = None
    link: str | None = None


def find(folders: Iterable[Path]) -> list[ModelFile]:
    """Files of ours in the folders and those below; others are not mentioned. Needs torch."""
    paths = dict.fromkeys(path for folder in folders for path in places.files_below(folder))
    return [found for path in paths if not path.name.startswith(".") and (found := identify(path)) is not None]


def identify(path: Path) -> ModelFile | None:
    """None for a file that is none of ours."""
    if os.path.islink(path) and not os.path.exists(path):
        return _dead_link(path)
    if path.name.endswith("tokenizer.json"):
        return _tokenizer(path)
    if path.suffix.lower() not in (*TORCH, *SAFETENSORS):
        return None
    network = None
    try:
        first_bytes.check(path)
        keys = _keys(path)
        network = _network(keys)
        if network is None:
            return None
        _check_length(path, keys)
        what, widths = _look_into(path, keys)
    except FoleyError as error:
        is_ours = network in OURS_ALONE or path.name in NAMES or path.parent.name == "foley"
        network = network or NAMES.get(path.name)
        what = "damaged" if isinstance(error, DamagedFileError) else "cannot be used"
        return _file(path, network, what, problem=error.reason(), link=error.link()) if is_ours else None
    return _file(path, network, what, widths)


def _file(path: Path, network: str | None, what: str, widths: dict[str, int] | None = None, **problem) -> ModelFile:
    size = path.stat().st_size if path.exists() else 0
    return ModelFile(str(path), size, network, what, widths or {}, path.parent == small_model.FOLDER, **problem)


def _dead_link(path: Path) -> ModelFile | None:
    """Of a link to a file that was moved or removed; its name is all there is to go by."""
    is_tokenizer = path.name.endswith("tokenizer.json") and path.parent.name in TOKENIZER_FOLDERS
    network = "tokenizer" if is_tokenizer else NAMES.get(path.name)
    if network is None and path.parent.name != "foley":
        return None
    error = DamagedFileError(
        f"{path.name} is a link to {os.readlink(path)}, where there is nothing.", "Expected a file.",
        "Put it back where the link leads, or remove the link.",
    )
    return _file(path, network, "a link that leads nowhere", problem=error.reason(), link=error.link())


def _keys(path: Path) -> dict[str, dict]:
    """Keys of a file, with their entries in the header where it has one. Without values, and without torch's unpickler.

    Raises:
        DamagedFileError: the file ends before they do, or is of no format that we know.
    """
    try:
        if path.suffix.lower() in SAFETENSORS:
            return _safetensors_keys(path)
        with zipfile.ZipFile(path) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return dict.fromkeys(_words(archive.read(pickled)), {})
    except UNREADABLE as error:
        raise DamagedFileError(
            f"{path.name} ({path.stat().st_size:,} bytes) is cut off, or no file of weights.", "Expected a complete file.",
            "Delete it and download it again.",
        ) from error


def _safetensors_keys(path: Path) -> dict[str, dict]:
    with open(path, "rb") as file:
        header = dict(json.loads(file.read(int.from_bytes(file.read(8), "little"))))
        behind = file.tell()
    metadata = header.pop("__metadata__", {})
    return {key: {**entry, "end": behind + entry["data_offsets"][1], "metadata": metadata} for key, entry in header.items()}


def _words(pickled: bytes) -> Iterator[str]:
    """Every text in a pickle that holds a network of ours; nothing of it is run."""
    import pickletools

    from .. import checkpoint

    if not any(component.anchor.encode() in pickled for component in checkpoint.COMPONENTS):
        return  # at once: going through the instructions takes a second for each megabyte
    try:
        yield from (value for _, value, _ in pickletools.genops(pickled) if isinstance(value, str))
    except (ValueError, pickle.UnpicklingError):  # a damaged one; what came before is known
        return


def _network(keys: dict[str, dict]) -> str | None:
    """As `pipeline.ModelFiles` calls it."""
    from .. import checkpoint, pipeline  # here and below: they need torch

    component = None if any(key in keys for key in checkpoint.STRANGERS) else checkpoint.identify(keys)
    return component and pipeline.FIELDS[component]


def _check_length(path: Path, keys: dict[str, dict]) -> None:
    end = max((entry["end"] for entry in keys.values() if entry), default=0)
    if path.stat().st_size < end:
        raise DamagedFileError(
            f"{path.name} has {path.stat().st_size:,} of its {end:,} bytes.", "Expected a complete file.",
            "Delete it and download it again.",
        )


def _tensors(path: Path, keys: dict[str, dict]) -> tuple[dict, dict]:
    """As from `checkpoint.read_state_dict`; where a header tells all, without values. Mapping a file would read ahead in it."""
    import torch

    from .. import checkpoint, quantization, tensor_file

    types = {name: dtype for dtype, name in tensor_file.NAMES.items()}
    plain = all(entry and entry["dtype"] in types and quantization.HEADER not in entry["metadata"] for entry in keys.values())
    if not plain or quantization.is_marked(keys):
        return checkpoint.read_state_dict(path)
    tensors = {key: torch.empty(one["shape"], dtype=types[one["dtype"]], device="meta") for key, one in keys.items()}
    return tensors, checkpoint.parse_config(next(iter(keys.values()))["metadata"], path)


def _look_into(path: Path, keys: dict[str, dict]) -> tuple[str, dict[str, int]]:
    """What a file holds in words, and the widths of its features. CheckpointError if a loader would refuse it."""
    from .. import checkpoint
    from ..vae.weight_norm import fold_weight_norm

    tensors, config = _tensors(path, keys)
    component = checkpoint.identify(tensors)
    needed = checkpoint.extract(component, tensors, path.name)
    if component is checkpoint.VAE:
        needed = fold_weight_norm({key: value.to("meta") for key, value in needed.items()})
    sizes = checkpoint.skeleton(component, needed, config, name=path.name).config
    count = Counter()
    for value in needed.values():
        count[str(value.dtype).removeprefix("torch.")] += value.numel()
    title = component.title
    if component is checkpoint.TRANSFORMER:
        blocks = sizes.num_multimodal_blocks, sizes.num_unimodal_blocks, sizes.hidden_size
        title += f" {RELEASED.get(blocks, 'of another size')} ({blocks[0]} + {blocks[1]} blocks, {blocks[2]} wide)"
        widths = {
            "clap": sizes.text_dim, "siglip2": sizes.visual_dim, "synchformer": sizes.sync_dim, "vae": sizes.latent_channels,
        }
    elif component is checkpoint.VAE:
        widths = {"vae": sizes.latent_channels}
    else:
        widths = {_network(tensors): sizes.hidden_size}
    types = [name for name, number in count.most_common() if number > MINOR * count.total()]
    return f"{title}, {count.total() / 1e6:,.1f} M parameters, {' and '.join(types)}", widths


def _tokenizer(path: Path) -> ModelFile | None:
    from ..encoders.tokenizer import FoleyTokenizer

    try:
        tokenizer = FoleyTokenizer.from_file(path)
    except FoleyError as error:
        is_ours = path.parent.name in TOKENIZER_FOLDERS
        return _file(path, "tokenizer", "damaged", problem=error.reason(), link=error.link()) if is_ours else None
    return _file(path, "tokenizer", f"tokenizer of {tokenizer.vocabulary:,} tokens")

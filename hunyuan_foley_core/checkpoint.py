"""Reading the released files, unchanged: `.pth`, `.bin` and `.safetensors` in; networks, strictly filled, out.

A component is found by one key that only it has, wherever in the file it sits, so that a whole Hugging Face checkpoint, a
file holding only the part we need, and what ComfyUI's ModelSave writes all load. Every key is either used or named here.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from . import first_bytes, quantization
from . import ops as casting_ops
from .config import ClapTextConfig, DACVAEConfig, SigLIP2Config, SynchformerConfig, TransformerConfig
from .encoders.clap import ClapTextEncoder
from .encoders.siglip2 import SigLIP2VisionTower
from .encoders.synchformer import SynchformerVisualTower
from .encoders.tokenizer import FoleyTokenizer
from .errors import CheckpointError, DamagedFileError, MissingFileError, UnsafeFileError, WrongFileError
from .model import FoleyTransformer
from .vae.dac import DACVAE
from .vae.weight_norm import fold_weight_norm
from .windows import WindowSettings

StateDict = dict[str, Tensor]

SUFFIXES = (*first_bytes.SAFETENSORS, *first_bytes.TORCH)
TOKENIZER_FILE = "tokenizer.json"
# Under which names training frameworks and the released files nest the tensors.
NESTINGS = ("state_dict", "model_state_dict", "model", "module")
AVERAGED = ("ema", "ema_model", "model_ema")  # weights averaged over a training; taken where a file has no others


@dataclass(frozen=True)
class Component:
    """One network of the system and how to find it in a file.

    Attributes:
        title: its name in messages.
        anchor: a key (below `root`) that no other network has.
        root: what our module's keys start with; a file may have any prefix, or none, in its place.
        config: reads the sizes from the tensors.
        network: builds the module from (config, ops=…, dtype=…, device=…).
        unused: starts of keys beside the ones we need, below `root` or elsewhere in the released file.
    """

    title: str
    anchor: str
    root: str
    config: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    network: Callable[..., nn.Module]
    unused: tuple[str, ...] = ()


TRANSFORMER = Component(
    "HunyuanVideo-Foley transformer", "audio_embedder.proj.weight", "",
    TransformerConfig.from_state_dict, FoleyTransformer,
)
VAE = Component("DAC-VAE", "post_quant_conv.weight", "", DACVAEConfig.from_state_dict, DACVAE)
SYNCHFORMER = Component(
    "Synchformer visual tower", "patch_embed_3d.proj.weight", "vfeat_extractor.",
    SynchformerConfig.from_state_dict, SynchformerVisualTower, SynchformerVisualTower.KNOWN_EXTRA_PREFIXES,
)
SIGLIP2 = Component(
    "SigLIP2 vision tower", "embeddings.patch_embedding.weight", "vision_model.",
    SigLIP2Config.from_state_dict, SigLIP2VisionTower, SigLIP2VisionTower.KNOWN_EXTRA_PREFIXES,
)
CLAP = Component(
    "CLAP text encoder", "embeddings.word_embeddings.weight", "text_model.",
    ClapTextConfig.from_state_dict, ClapTextEncoder, ClapTextEncoder.KNOWN_EXTRA_PREFIXES,
)
COMPONENTS = (TRANSFORMER, VAE, SYNCHFORMER, SIGLIP2, CLAP)
# Files people pick by mistake, by a key that gives them away.
STRANGERS = {
    "model.diffusion_model.input_blocks.0.0.weight": "a Stable Diffusion checkpoint",
    "input_blocks.0.0.weight": "a Stable Diffusion model",
    "first_stage_model.decoder.conv_in.weight": "an image checkpoint with its VAE",
    "decoder.conv_in.weight": "an image VAE",
    "double_blocks.0.img_attn.qkv.weight": "a FLUX or HunyuanVideo picture model",
    "decoder.layers.0.weight_v": "the VAE of another audio model",
    "vision_model.embeddings.class_embedding": "a CLIP vision model",
}


def read_state_dict(path: str | Path, wanted: Callable[[str], bool] | None = None) -> tuple[StateDict, dict[str, Any]]:
    """Reads the tensors of a file as stored, on the CPU, running no code from it.

    What a safetensors header says of quantised layers comes along as a tensor `<layer>.comfy_quant` for each of them.

    Args:
        path: a `.safetensors` file, or a torch file with a plain or nested state dict.
        wanted: which keys to read; None: all.

    Returns:
        The tensors by key, and the model's own `config` where the file carries one (else empty).

    Raises:
        CheckpointError: no such file, damaged or truncated, holding code, or holding no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no file {path}.", "Expected a weight file.", "Check the folder and the name, or download it again."
        )
    first_bytes.check(path)
    if path.suffix.lower() in first_bytes.SAFETENSORS:
        tensors, config = _read_safetensors(path, wanted)
    else:
        tensors, config = _read_torch(path, wanted)
    if not tensors and wanted is None:
        raise WrongFileError(f"{path.name} holds no tensors.", "Expected a state dict.", "Pick a weight file.")
    return tensors, config


def _read_safetensors(path: Path, wanted: Callable[[str], bool] | None) -> tuple[StateDict, dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys() if wanted is None or wanted(key)}
            marks = quantization.marks_of(metadata, path.name)
            tensors |= {key: mark for key, mark in marks.items() if wanted is None or wanted(key)}
            return tensors, parse_config(metadata, path)
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(
            f"{path.name} ({path.stat().st_size:,} bytes) cannot be read as safetensors: {error}.",
            "Expected a complete file.",
            "It was probably not downloaded to the end: delete it and download it again.",
        ) from error


def parse_config(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The model's own `config` in a safetensors header; empty where there is none."""
    text = metadata.get("config", "{}")
    try:
        config = json.loads(text)
    except json.JSONDecodeError:
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(
            f"The metadata `config` of {path.name} is not a JSON object.", "Expected one, or none at all.",
            "Write the file again without it.",
        )
    return config


def _read_torch(path: Path, wanted: Callable[[str], bool] | None) -> tuple[StateDict, dict[str, Any]]:
    loaded = _torch_load(path)
    tensors = _unwrap(loaded, path)
    metadata = loaded.get("metadata") if isinstance(loaded, Mapping) else None
    config = metadata.get("kwargs") if isinstance(metadata, Mapping) else None
    kept = {key: value for key, value in tensors.items() if wanted is None or wanted(key)}
    return kept, dict(config) if isinstance(config, Mapping) else {}


def _torch_load(path: Path) -> Any:
    """`torch.load` without code; memory-mapped where the file's format allows."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"{path.name} is not a plain file of tensors: it is damaged, or reading it would run code that it contains.",
            "Only tensors and plain containers are read.",
            "Use a .safetensors file, or one from a source you trust that was saved as a state dict.",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # on a damaged stream torch's unpickler stops with whatever its next instruction raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedFileError(
            f"{path.name} ({path.stat().st_size:,} bytes) cannot be read: {reason}.",
            "Expected a complete torch or safetensors file.",
            "It was probably not downloaded to the end: delete it and download it again.",
        ) from error


def _unwrap(loaded: Any, path: Path) -> StateDict:
    """The innermost mapping of keys to tensors, through the usual nestings."""
    tensors = _nested(loaded, path)
    if not tensors:
        raise WrongFileError(
            f"{path.name} holds no state dict that we can find.",
            f"Expected tensors by name, plain or under one of {', '.join(NESTINGS + AVERAGED)}.",
            "Pick a weight file.",
        )
    return tensors


def _nested(loaded: Any, path: Path) -> StateDict:
    if not isinstance(loaded, Mapping):
        return {}
    # Optimisers number what they keep.
    loose = {key: value for key, value in loaded.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if identify(loose) is not None:
        return loose
    for name in NESTINGS:
        if tensors := _nested(loaded.get(name), path):
            return tensors
    averaged = {name: tensors for name in AVERAGED if (tensors := _nested(loaded.get(name), path))}
    if not averaged:
        return loose
    if len(averaged) > 1:
        raise CheckpointError(
            f"{path.name} holds averaged weights under {' and '.join(averaged)}.", "Expected one set of weights.",
            "Save those that are meant in a file of their own.",
        )
    return next(iter(averaged.values()))


def _prefix(component: Component, keys) -> str | None:
    """What stands before the component's keys in this file (None: the component is not there)."""
    for key in keys:
        if key == component.anchor or key.endswith("." + component.anchor):
            return key[: -len(component.anchor)]
    return None


def identify(keys) -> Component | None:
    """Which of our networks a file with these keys holds, or None."""
    return next((component for component in COMPONENTS if _prefix(component, keys) is not None), None)


def describe(keys) -> str:
    """What a file with these keys seems to hold, in words."""
    for key, description in STRANGERS.items():
        if key in keys:
            return description
    found = identify(keys)
    if found is not None:
        return f"the {found.title}"
    return f"something else (its first keys are {', '.join(sorted(keys)[:3])})"


def extract(component: Component, tensors: StateDict, name: str) -> StateDict:
    """The component's tensors under our module's keys, with known leftovers dropped; scales as `quantization` has them.

    Raises:
        CheckpointError: the file holds another network, or is quantised in a way or of a type that we do not read.
    """
    prefix = _prefix(component, tensors)
    if prefix is None or any(key in tensors for key in STRANGERS):
        raise WrongFileError(
            f"{name} holds {describe(tensors)}.", f"Expected the {component.title}.", "Pick the file that holds it."
        )
    mark = quantization.is_marked(tensors)
    if mark is not None and component is not TRANSFORMER:
        raise CheckpointError(
            f"{name} is quantised (it has `{mark}`).", f"The {component.title} is read in fp32, bf16 and fp16.",
            "Pick one of those files.",
        )
    # Keys below the prefix are ours; anything else in the file must be a known neighbour of this network.
    renamed = {
        component.root + key[len(prefix):] if key.startswith(prefix) else key: value for key, value in tensors.items()
    }
    needed = {key: value for key, value in renamed.items() if not key.startswith(component.unused)}
    needed = quantization.normalise(needed, name) if component is TRANSFORMER else needed
    _check_types(component, needed, name)
    return needed


def _check_types(component: Component, tensors: StateDict, name: str) -> None:
    """Our networks hold real numbers: whole ones are weights in a form that only another program undoes."""
    others = [key for key, value in tensors.items() if not value.is_floating_point()]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise CheckpointError(
            f"{name} holds {str(tensors[others[0]].dtype)[6:]} in `{others[0]}`{more}.",
            f"The {component.title} is read in fp32, bf16{', fp16 and fp8' if component is TRANSFORMER else ' and fp16'}.",
            "Pick such a file.",
        )


def skeleton(
    component: Component, tensors: StateDict, config: Mapping[str, Any], *, name: str = "The file", ops=casting_ops
) -> nn.Module:
    """The network that exactly these tensors fill, without storage.

    Args:
        tensors: as from `extract`; config: as from `read_state_dict`.

    Raises:
        CheckpointError: missing or unknown keys, shapes that do not fit each other, or a config that cannot be.
    """
    with torch.device("meta"):
        module = component.network(component.config(tensors, config), ops=ops)
        layers = dict(module.named_modules())
        for layer in quantization.scaled_layers(tensors):
            if "weight_scale" in getattr(layers.get(layer), "_buffers", ()):
                layers[layer].weight_scale = torch.empty((), dtype=torch.float32)
    check_fit(component, module.state_dict(), tensors, name)
    if component is TRANSFORMER:
        module.windows = WindowSettings.of_weights(config, name)
    return module


def build(
    component: Component, tensors: StateDict, config: Mapping[str, Any], *, name: str = "The file",
    dtype: torch.dtype | None = None, device: torch.device | str = "cpu", ops=casting_ops,
) -> nn.Module:
    """The network of a component, filled from a file's tensors.

    Args:
        tensors, config: as from `read_state_dict`.
        name: of the file, for messages.
        dtype: of the parameters, scaled ones multiplied out; None: as stored.
        ops: namespace of layers.

    Raises:
        CheckpointError: wrong network, missing or unknown keys, or shapes that do not fit each other.
    """
    needed = extract(component, tensors, name)
    if component is VAE:
        needed = fold_weight_norm(needed)
    needed = quantization.held_by(device, needed, name) if dtype is None else quantization.unscaled(needed, dtype)
    module = skeleton(component, needed, config, name=name, ops=ops)
    module.load_state_dict(needed, strict=True, assign=True)
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)


def check_fit(component: Component, expected: StateDict, given: StateDict, name: str) -> None:
    """Raises CheckpointError unless a file's tensors are exactly the expected ones, by key and shape."""
    missing = sorted(expected.keys() - given.keys())
    unknown = sorted(given.keys() - expected.keys())
    misfits = sorted(key for key in expected.keys() & given.keys() if expected[key].shape != given[key].shape)
    if not (missing or unknown or misfits):
        return
    found = []
    for label, keys in (("lacks", missing), ("has unknown", unknown), ("has misshapen", misfits)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            found.append(f"{label} {', '.join(keys[:3])}{more}")
    raise DamagedFileError(
        f"{name} holds the {component.title}, but it {'; it '.join(found)}.",
        f"Expected the {len(expected)} tensors of the {component.title}.",
        "The file is incomplete or was converted wrongly: download it again.",
    )


def _load(component: Component, path: str | Path, dtype, device, ops) -> nn.Module:
    tensors, config = read_state_dict(path)
    return build(component, tensors, config, name=Path(path).name, dtype=dtype, device=device, ops=ops)


def load_transformer(path: str | Path, *, dtype=None, device="cpu", ops=casting_ops) -> FoleyTransformer:
    """The diffusion transformer, XXL, XL or any other size, from `path`. See `read_state_dict` and `build` for errors.

    Args:
        dtype: of the parameters; None: as stored (fp32, bf16, fp16, or fp8 in the large weights, with scales or without).
            Layers compute in the dtype of their input, whatever they are stored in.
    """
    return _load(TRANSFORMER, path, dtype, device, ops)


def load_vae(path: str | Path, *, dtype=None, device="cpu", ops=casting_ops) -> DACVAE:
    """The DAC-VAE, with weight norm folded in float32; `dtype` None leaves the folded weights in float32."""
    return _load(VAE, path, dtype, device, ops)


def load_synchformer(path: str | Path, *, dtype=None, device="cpu", ops=casting_ops) -> SynchformerVisualTower:
    """Synchformer's visual tower, from the whole released file or one holding only `vfeat_extractor.*`."""
    return _load(SYNCHFORMER, path, dtype, device, ops)


def load_siglip2(path: str | Path, *, dtype=None, device="cpu", ops=casting_ops) -> SigLIP2VisionTower:
    """SigLIP2's vision tower, from a whole Hugging Face checkpoint or one holding only `vision_model.*`."""
    return _load(SIGLIP2, path, dtype, device, ops)


def load_clap(
    path: str | Path, tokenizer: str | Path | None = None, *, dtype=None, device="cpu", ops=casting_ops
) -> ClapTextEncoder:
    """CLAP's text encoder, from a whole Hugging Face checkpoint or one holding only `text_model.*`.

    Args:
        tokenizer: a `tokenizer.json`; None: the one beside `path`, if there is one. Only encoding text needs it.
    """
    clap = _load(CLAP, path, dtype, device, ops)
    beside = Path(path).with_name(TOKENIZER_FILE)
    source = tokenizer if tokenizer is not None else beside if beside.is_file() else None
    if source is not None:
        clap.tokenizer = FoleyTokenizer.from_file(source, clap.config.max_tokens)
        if clap.tokenizer.vocabulary > clap.config.vocab_size:
            raise WrongFileError(
                f"{Path(source)} has {clap.tokenizer.vocabulary} tokens, {Path(path).name} knows {clap.config.vocab_size}.",
                "Expected the tokenizer that belongs to these weights.",
                f"Take the {TOKENIZER_FILE} that came with them.",
            )
    return clap

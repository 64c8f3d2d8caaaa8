"""The three encoders under ComfyUI's memory management, travelling together on one socket."""

from dataclasses import dataclass, field
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch

from ..hunyuan_foley_core import checkpoint
from ..hunyuan_foley_core.errors import MissingFileError

# Activations of the encoders in bytes. Measured on a CPU at the released widths in float32, pictures included: 0.13 GB for
# four pictures of 512 px in SigLIP2 and 0.48 GB for two segments in Synchformer, which do not run at the same time.
VIDEO_MEMORY = 0.75 * 1024**3
TEXT_MEMORY = 0.25 * 1024**3


@dataclass(frozen=True)
class FoleyEncoders:
    """SigLIP2 and Synchformer for the picture, CLAP for the text, each in a patcher of its own.

    Attributes:
        sources: file names by kind of feature (`visual`, `sync`, `text`), for messages.
    """

    siglip2: comfy.model_patcher.ModelPatcher
    synchformer: comfy.model_patcher.ModelPatcher
    clap: comfy.model_patcher.ModelPatcher
    sources: dict[str, str] = field(default_factory=dict)

    def load_for_video(self):
        """(SigLIP2, Synchformer, device), both on the compute device."""
        return *_load((self.siglip2, self.synchformer), VIDEO_MEMORY), self.siglip2.load_device

    def load_for_text(self):
        """(CLAP, device), on the compute device."""
        return *_load((self.clap,), TEXT_MEMORY), self.clap.load_device

    def get_ram_usage(self) -> int:
        """Bytes, for ComfyUI's cache."""
        return sum(patcher.model_size() for patcher in (self.siglip2, self.synchformer, self.clap))


def load_foley_encoders(siglip2: str, synchformer: str, clap: str, tokenizer: str | None) -> FoleyEncoders:
    """Reads the encoders from their files.

    Args:
        tokenizer: path of a tokenizer.json; None: the one beside `clap`.

    Raises:
        CheckpointError: a file is missing, damaged, or something else.
    """
    # As in the released code, whose Synchformer alone ran in half precision.
    device, management = comfy.model_management.get_torch_device(), comfy.model_management
    sync_dtype = torch.float16 if management.should_use_fp16(device, prioritize_performance=True) else torch.float32
    precise = dict(dtype=torch.float32, ops=comfy.ops.manual_cast)
    text_encoder = checkpoint.load_clap(clap, tokenizer, **precise)
    if text_encoder.tokenizer is None:
        raise MissingFileError(
            f"There is no {checkpoint.TOKENIZER_FILE} beside {Path(clap).name}.",
            "Expected the tokenizer of laion/larger_clap_general.",
            "Put it there, or put it under any name into models/text_encoders or models/foley and pick it.",
        )
    return FoleyEncoders(
        siglip2=_patcher(checkpoint.load_siglip2(siglip2, **precise)),
        synchformer=_patcher(checkpoint.load_synchformer(synchformer, **{**precise, "dtype": sync_dtype})),
        clap=_patcher(text_encoder),
        sources={"visual": Path(siglip2).name, "sync": Path(synchformer).name, "text": Path(clap).name},
    )


def _patcher(model: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    management = comfy.model_management
    # Not text_encoder_device(): with little memory that is the CPU, where a video would take minutes.
    return comfy.model_patcher.ModelPatcher(
        model, load_device=management.get_torch_device(), offload_device=management.text_encoder_offload_device()
    )


def _load(patchers, memory_required: float):
    # In full, because they are small and hold parameters outside of layers, which a partial load leaves behind.
    comfy.model_management.load_models_gpu(list(patchers), memory_required=memory_required, force_full_load=True)
    return tuple(patcher.model for patcher in patchers)

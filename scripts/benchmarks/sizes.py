"""What is measured: networks of the released or smaller sizes with random weights, and the inputs they get."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from hunyuan_foley_core.config import DACVAEConfig, SigLIP2Config, SynchformerConfig, TransformerConfig


@dataclass(frozen=True)
class Sizes:
    """One set of networks and inputs.

    Attributes:
        step_seconds: length of the sound the transformer step works on.
        clip_seconds, clip_size: length, and width and height, of the video to encode.
        decode_seconds: lengths of sound to decode, ascending.
    """

    transformer: TransformerConfig
    siglip2: SigLIP2Config
    synchformer: SynchformerConfig
    vae: DACVAEConfig
    step_seconds: float
    clip_seconds: int
    clip_size: tuple[int, int]
    decode_seconds: tuple[int, ...]


# The transformer has the released width and few blocks, for a step of seconds; the rest is as released.
RELEASED = Sizes(
    transformer=TransformerConfig(
        latent_channels=128, hidden_size=1536, num_heads=12, num_multimodal_blocks=2, num_unimodal_blocks=4,
        mlp_hidden=6144, conv_mlp_hidden=4096, sync_mlp_hidden=4096,
        text_dim=768, visual_dim=768, sync_dim=768, sync_tokens_per_segment=8, time_frequencies=256,
    ),
    siglip2=SigLIP2Config(
        hidden_size=768, num_heads=12, num_layers=12, mlp_hidden=3072, patch_size=16, image_size=512
    ),
    synchformer=SynchformerConfig(
        hidden_size=768, num_heads=12, num_blocks=12, mlp_hidden=3072, aggregator_mlp_hidden=3072,
        patch_size=16, tubelet_size=2, image_size=224, time_steps=8,
    ),
    vae=DACVAEConfig(
        encoder_dim=128, encoder_rates=(2, 3, 4, 5, 8), decoder_dim=2048, decoder_rates=(8, 5, 4, 3, 2),
        latent_channels=128,
    ),
    step_seconds=8.0, clip_seconds=15, clip_size=(1920, 1080), decode_seconds=(15, 30, 60),
)

# The whole transformers, as released.
XXL = replace(RELEASED.transformer, num_multimodal_blocks=18, num_unimodal_blocks=36)
XL = replace(
    XXL, hidden_size=1408, num_heads=11, num_multimodal_blocks=12, num_unimodal_blocks=24,
    mlp_hidden=5632, conv_mlp_hidden=3840, sync_mlp_hidden=3840,
)

# Small networks on the same inputs: what the inputs alone cost.
SMALL = replace(
    RELEASED,
    transformer=replace(
        RELEASED.transformer, hidden_size=256, num_heads=2, mlp_hidden=1024, conv_mlp_hidden=768, sync_mlp_hidden=768,
        text_dim=128, visual_dim=128, sync_dim=128,
    ),
    siglip2=replace(RELEASED.siglip2, hidden_size=128, num_heads=2, num_layers=2, mlp_hidden=256),
    synchformer=replace(
        RELEASED.synchformer, hidden_size=128, num_heads=2, num_blocks=2, mlp_hidden=256, aggregator_mlp_hidden=256
    ),
    vae=replace(RELEASED.vae, encoder_dim=8, decoder_dim=128),
)

# Small networks on small inputs, for the tests.
TINY = replace(SMALL, step_seconds=1.0, clip_seconds=1, clip_size=(160, 96), decode_seconds=(1,))

BY_NAME = {"released": RELEASED, "small": SMALL, "tiny": TINY}


def random_network(network_class: type, config) -> torch.nn.Module:
    """A network with random weights, the same at every call."""
    network = network_class(config, device="meta")
    network.load_state_dict(dict(random_tensors(network, torch.device("cpu"))), strict=True, assign=True)
    return network.requires_grad_(False)


def random_tensors(network: torch.nn.Module, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Float32 values for a network's keys that keep variances level, one after the other; the same at every call."""
    generator = torch.Generator(device).manual_seed(0)
    for key, tensor in network.state_dict().items():
        yield key, _random_tensor(key, tensor.shape, generator)


def _random_tensor(key: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if key.endswith("bias"):
        mean, deviation = 0.0, 0.1
    elif len(shape) == 1 or key.endswith("alpha"):
        mean, deviation = 1.0, 0.1
    else:
        mean, deviation = 0.0, 1 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape, device=generator.device).normal_(mean, deviation, generator=generator)

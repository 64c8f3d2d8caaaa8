"""Small networks with random weights, stored under the names and keys of the released files.

They load through the same code as the released ones and run in seconds on a CPU; what they make is noise.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from hunyuan_foley_core.config import (
    ClapTextConfig,
    DACVAEConfig,
    SigLIP2Config,
    SynchformerConfig,
    TransformerConfig,
)
from hunyuan_foley_core.encoders.clap import ClapTextEncoder
from hunyuan_foley_core.encoders.siglip2 import SigLIP2VisionTower
from hunyuan_foley_core.encoders.synchformer import SynchformerVisualTower
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.vae.dac import DACVAE

# Where the workflows' notes and the README say that each file goes, below ComfyUI's models folder.
TRANSFORMER = "diffusion_models/hunyuanvideo_foley.pth"
VAE = "vae/vae_128d_48k.pth"
SYNCHFORMER = "foley/synchformer_state_dict.pth"
SIGLIP2 = "clip_vision/siglip2_base_patch16_512.safetensors"
CLAP = "text_encoders/larger_clap_general.safetensors"
TOKENIZER = "text_encoders/tokenizer.json"
FILES = (TRANSFORMER, VAE, SYNCHFORMER, SIGLIP2, CLAP, TOKENIZER)

FEATURES = 128  # width of text, visual and sync features: two heads of the 64 that the released encoders have
SOUND_STD = 0.15  # of the decoded sound: plain to hear and far from clipping
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]

State = dict[str, torch.Tensor]


def write(folder: Path, seed: int = 0) -> None:
    """Writes all of FILES below `folder`, a models folder of ComfyUI; equal seeds give equal files."""
    generator = torch.Generator().manual_seed(seed)
    for name in (TRANSFORMER, VAE, SYNCHFORMER, SIGLIP2, CLAP):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer()
    tokenizer.save(str(folder / TOKENIZER))
    torch.save(_cast(transformer(generator), torch.bfloat16), folder / TRANSFORMER)
    torch.save(vae(generator), folder / VAE)
    torch.save(synchformer(generator), folder / SYNCHFORMER)
    save_file(siglip2(generator), folder / SIGLIP2)
    save_file(clap(generator, tokenizer.get_vocab_size()), folder / CLAP)


def transformer(generator: torch.Generator) -> State:
    config = TransformerConfig(
        latent_channels=128, hidden_size=128, num_heads=2, num_multimodal_blocks=2, num_unimodal_blocks=2,
        mlp_hidden=512, conv_mlp_hidden=512, sync_mlp_hidden=512,
        text_dim=FEATURES, visual_dim=FEATURES, sync_dim=FEATURES, sync_tokens_per_segment=8, time_frequencies=256,
    )
    return random_state(FoleyTransformer(config, device="meta"), generator)


def siglip2(generator: torch.Generator) -> State:
    config = SigLIP2Config(
        hidden_size=FEATURES, num_heads=2, num_layers=2, mlp_hidden=256, patch_size=16, image_size=512
    )
    return random_state(SigLIP2VisionTower(config, device="meta"), generator)


def synchformer(generator: torch.Generator) -> State:
    config = SynchformerConfig(
        hidden_size=FEATURES, num_heads=2, num_blocks=2, mlp_hidden=256, aggregator_mlp_hidden=256,
        patch_size=16, tubelet_size=2, image_size=224, time_steps=8,
    )
    return random_state(SynchformerVisualTower(config, device="meta"), generator)


def clap(generator: torch.Generator, vocab_size: int) -> State:
    config = ClapTextConfig(
        vocab_size=vocab_size, hidden_size=FEATURES, num_heads=2, num_layers=2, mlp_hidden=256, max_positions=514,
        pad_token_id=1,
    )
    return random_state(ClapTextEncoder(config, device="meta"), generator)


def vae(generator: torch.Generator) -> dict[str, dict]:
    """The nested file of the released codec, with weight norm, scaled so that normal latents make a plain sound."""
    sizes = {"encoder_dim": 8, "encoder_rates": (2, 3, 4, 5, 8), "decoder_dim": 128, "decoder_rates": (8, 5, 4, 3, 2)}
    network = DACVAE(DACVAEConfig(latent_channels=128, **sizes), device="meta")
    state = random_state(network, generator)
    network.load_state_dict(state, assign=True)
    with torch.no_grad():
        sound = network.decoder.model[:-1](network.post_quant_conv(torch.randn(1, 128, 50, generator=generator)))
        latents, _ = network.posterior(torch.randn(1, 1, 48000, generator=generator) * SOUND_STD)
    last = max((key for key in state if key.startswith("decoder.") and key.endswith(".weight")), key=_block_number)
    state[last] *= SOUND_STD / sound.std()
    state["quant_conv.weight"] /= latents.std()
    return {"state_dict": split_weight_norm(state), "metadata": {"kwargs": {**sizes, "latent_dim": 128}}}


def random_state(network: torch.nn.Module, generator: torch.Generator) -> State:
    """A state dict for a network on the meta device: norms at one, biases at zero, the rest keeping variances level."""
    return {key: _random_tensor(key, tensor.shape, generator) for key, tensor in network.state_dict().items()}


def split_weight_norm(state: State) -> State:
    """Stores the convolutions of encoder and decoder as `weight_g` and `weight_v`, as the released codec does."""
    split = {}
    for key, tensor in state.items():
        if key.startswith(("encoder.", "decoder.")) and key.endswith(".weight"):
            split[key + "_g"] = tensor.flatten(1).norm(dim=1)[:, None, None]
            split[key + "_v"] = tensor
        else:
            split[key] = tensor
    return split


def byte_tokenizer() -> Tokenizer:
    """A RoBERTa tokenizer without merges: every byte of a text is one token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIAL_TOKENS + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def _random_tensor(key: str, shape: Iterable[int], generator: torch.Generator) -> torch.Tensor:
    if key.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1 or key.endswith("alpha"):
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))


def _block_number(key: str) -> int:
    return int(key.split(".")[2])


def _cast(state: State, dtype: torch.dtype) -> State:
    return {key: tensor.to(dtype) for key, tensor in state.items()}

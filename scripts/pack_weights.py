"""Puts what the small model's training runs gave into a models folder of ComfyUI, in 16 bits.

    python scripts/pack_weights.py encoders RUN MODELS       the three encoders of `train encoders_tiny`, and their tokenizer
    python scripts/pack_weights.py codec RUN MODELS SOUNDS   the DAC-VAE, its latents normalised over some of the sounds
    python scripts/pack_weights.py decoder RUN MODELS        the DAC-VAE again, after more training of its decoder
    python scripts/pack_weights.py transformer RUN MODELS    the transformer of `train tiny`

RUN is the folder a run was told to write to (`out`); its newest checkpoint is taken.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from hunyuan_foley_core.checkpoint import load_vae, read_state_dict
from hunyuan_foley_core.timing import LATENT_HOP
from hunyuan_foley_core.train import checkpoints
from hunyuan_foley_core.train.dac_vae import normalise_latents
from hunyuan_foley_core.train.encoders import split_towers
from hunyuan_foley_core.train.sounds import Sounds, scan

# Below ComfyUI's models folder, where the workflows look.
TRANSFORMER = "diffusion_models/foley_tiny.safetensors"
VAE = "vae/foley_tiny_vae.safetensors"
SIGLIP2 = "clip_vision/foley_tiny_siglip2.safetensors"
SYNCHFORMER = "foley/foley_tiny_synchformer.safetensors"
CLAP = "text_encoders/foley_tiny_clap.safetensors"
TOKENIZER = "text_encoders/tokenizer.json"
NORMALISING_BATCHES = 50


def newest(run: Path) -> Path:
    return checkpoints.found(run)[-1] / checkpoints.WEIGHTS


def write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    save_file({key: tensor.contiguous() for key, tensor in halves.items()}, path, {"format": "pt"})


def encoders(run: Path, models: Path) -> None:
    towers = split_towers(read_state_dict(newest(run))[0])
    for name, path in (("siglip2", SIGLIP2), ("synchformer", SYNCHFORMER), ("clap", CLAP)):
        write(towers[name], models / path)
    shutil.copy(run / "tokenizer.json", models / TOKENIZER)


def codec(run: Path, models: Path, sounds: Path) -> None:
    vae = load_vae(newest(run))
    batches = Sounds(scan(sounds), 8, 50 * LATENT_HOP, seed=0)
    normalise_latents(vae, (batches(number)["waveform"] for number in range(NORMALISING_BATCHES)))
    write(vae.state_dict(), models / VAE)


def decoder(run: Path, models: Path) -> None:
    write(load_vae(newest(run)).state_dict(), models / VAE)


def transformer(run: Path, models: Path) -> None:
    write(read_state_dict(newest(run))[0], models / TRANSFORMER)


PARTS = {"encoders": encoders, "codec": codec, "decoder": decoder, "transformer": transformer}

if __name__ == "__main__":
    part, *folders = sys.argv[1:]
    PARTS[part](*map(Path, folders))

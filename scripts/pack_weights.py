"""Puts what the small model's training runs gave into a folder, in 16 bits.

    python scripts/pack_weights.py encoders RUN WEIGHTS       the three encoders of `train encoders_tiny`, and their tokenizer
    python scripts/pack_weights.py siglip2 RUN WEIGHTS        SigLIP2 alone, of `train encoders_tiny part=siglip2`
    python scripts/pack_weights.py codec RUN WEIGHTS SOUNDS   the DAC-VAE, its latents normalised over some of the sounds
    python scripts/pack_weights.py decoder RUN WEIGHTS        the DAC-VAE again, after more training of its decoder
    python scripts/pack_weights.py transformer RUN WEIGHTS    the transformer of `train tiny`

RUN is the folder a run was told to write to (`out`); its newest checkpoint is taken. WEIGHTS is `weights` for the files that
this repository ships.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from hunyuan_foley_core.checkpoint import load_vae, read_state_dict
from hunyuan_foley_core.small_model import CLAP, SIGLIP2, SYNCHFORMER, TOKENIZER, TRANSFORMER, VAE
from hunyuan_foley_core.timing import LATENT_HOP
from hunyuan_foley_core.train import checkpoints
from hunyuan_foley_core.train.dac_vae import normalise_latents
from hunyuan_foley_core.train.encoders import split_towers
from hunyuan_foley_core.train.sounds import Sounds, scan
from hunyuan_foley_core.windows import CONFIG_KEY

NORMALISING_BATCHES = 50


def newest(run: Path) -> Path:
    return checkpoints.found(run)[-1] / checkpoints.WEIGHTS


# In one piece as long as the pieces that training had at most, above that in windows of those it had most of.
WINDOWS = {"length": 3.96, "overlap": 0.96, "longest_whole": 8}


def write(tensors: dict[str, torch.Tensor], path: Path, **config) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    metadata = {"format": "pt", **({"config": json.dumps(config)} if config else {})}
    save_file({key: tensor.contiguous() for key, tensor in halves.items()}, path, metadata)


def encoders(run: Path, weights: Path) -> None:
    towers = split_towers(read_state_dict(newest(run))[0])
    for name, path in (("siglip2", SIGLIP2), ("synchformer", SYNCHFORMER), ("clap", CLAP)):
        write(towers[name], weights / path)
    shutil.copy(run / "tokenizer.json", weights / TOKENIZER)


def siglip2(run: Path, weights: Path) -> None:
    write(split_towers(read_state_dict(newest(run))[0])["siglip2"], weights / SIGLIP2)


def codec(run: Path, weights: Path, sounds: Path) -> None:
    vae = load_vae(newest(run))
    batches = Sounds(scan(sounds), 8, 50 * LATENT_HOP, seed=0)
    normalise_latents(vae, (batches(number)["waveform"] for number in range(NORMALISING_BATCHES)))
    write(vae.state_dict(), weights / VAE)


def decoder(run: Path, weights: Path) -> None:
    write(load_vae(newest(run)).state_dict(), weights / VAE)


def transformer(run: Path, weights: Path) -> None:
    write(read_state_dict(newest(run))[0], weights / TRANSFORMER, **{CONFIG_KEY: WINDOWS})


PARTS = {"encoders": encoders, "siglip2": siglip2, "codec": codec, "decoder": decoder, "transformer": transformer}

if __name__ == "__main__":
    part, *folders = sys.argv[1:]
    PARTS[part](*map(Path, folders))

"""The small model that comes with this repository: where its files lie, what they are called, what it can do."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "weights"
TRANSFORMER = "foley_tiny.safetensors"
VAE = "foley_tiny_vae.safetensors"
SIGLIP2 = "foley_tiny_siglip2.safetensors"
SYNCHFORMER = "foley_tiny_synchformer.safetensors"
CLAP = "foley_tiny_clap.safetensors"
WEIGHTS = (TRANSFORMER, VAE, SIGLIP2, SYNCHFORMER, CLAP)
TOKENIZER = "tokenizer.json"  # of CLAP
LIMITS = (
    "The small model knows simple synthetic scenes only: things of wood, metal, glass, rubber and stone that fall, bounce, "
    "roll, are hammered or knocked at, best one at a time, in clips of 2 to 8 s. It was not made for real footage; "
    "the README says where the released weights are."
)

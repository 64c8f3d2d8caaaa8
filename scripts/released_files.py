"""The released files that the loaders take: for ComfyUI's dialog about missing models, and for the workflow that names them."""

from pathlib import Path

from hunyuan_foley_core.download.released import MODELS, Released

HUB = "https://huggingface.co/{}/resolve/main/{}"
LOADERS = {
    "transformer": "FoleyLoadModel", "siglip2": "FoleyLoadEncoders", "synchformer": "FoleyLoadEncoders",
    "clap": "FoleyLoadEncoders", "vae": "FoleyLoadVAE",
}
FILES = dict.fromkeys((*MODELS["xxl"], *MODELS["xl"]))  # most belong to both


def model_links(class_type: str) -> list[dict[str, str]]:
    """A node's property `models`: name, url and directory of each file, in the form that ComfyUI's page reads.

    The page asks for those alone that a widget of the node names.
    """
    return [
        {"name": name(file), "url": HUB.format(file.repository, file.names[0]), "directory": file.folder}
        for file in FILES if LOADERS.get(file.what) == class_type
    ]


def name(file: Released) -> str:
    """As it is saved, and as a loader's widget shows it."""
    return file.saved_as + Path(file.names[0]).suffix


def names(model: str) -> dict[str, str]:
    """What each network's file of a model, `xxl` or `xl`, is called."""
    return {file.what: name(file) for file in MODELS[model]}

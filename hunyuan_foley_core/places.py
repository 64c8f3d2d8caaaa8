"""Where this package lies, the ComfyUI around it, if there is one, and what lies in a folder of the user's."""

import os
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
# Folders below ComfyUI's `models` in which the loaders look, each with other names that ComfyUI has for it.
MODEL_FOLDERS = {
    "diffusion_models": ("unet",), "vae": (), "clip_vision": (), "text_encoders": ("clip",), "foley": (),
}


def comfyui_around(pack: Path = PACK) -> Path | None:
    """The folder that holds `custom_nodes` with this package in it: ComfyUI's own, or its --base-directory."""
    return pack.parent.parent if pack.parent.name == "custom_nodes" else None


def model_folders(models: Path) -> dict[str, list[Path]]:
    """The folders below `models`, by name; those that a download may be put into come first."""
    return {name: [models / name, *(models / other for other in others)] for name, others in MODEL_FOLDERS.items()}


def files_below(folder: str | Path) -> list[Path]:
    """All files in a folder and those below, sorted; through links to folders as well, as ComfyUI lists models."""
    found, seen = [], set()
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above would lead round and round
            below.clear()
            continue
        seen.add(real)
        below.sort()  # of two ways to one folder, the same counts every time
        found += (Path(place, name) for name in names)
    return sorted(found)

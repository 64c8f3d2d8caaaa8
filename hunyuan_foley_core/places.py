"""Where this package lies, and the ComfyUI around it, if there is one."""

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

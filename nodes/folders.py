"""Which model files the loaders offer, and where they lie."""

import os
from pathlib import Path

import folder_paths

from ..hunyuan_foley_core import places, small_model
from ..hunyuan_foley_core.errors import MissingFileError

FOLEY = "foley"
TRANSFORMER_FOLDERS = ("diffusion_models", FOLEY)
VAE_FOLDERS = ("vae", FOLEY)
ENCODER_FOLDERS = ("clip_vision", "text_encoders", FOLEY)
TOKENIZER_FOLDERS = ("text_encoders", FOLEY)
TOKENIZER_ENDING = ".json"


def register_foley_folder() -> None:
    """Adds `models/foley`, beside any place that extra_model_paths.yaml already gave it, and the pack's own weights."""
    paths, _ = folder_paths.folder_names_and_paths.get(FOLEY, ([], set()))
    # The pack's come last: of two files with one name, the user's own is meant.
    ours = [os.path.join(folder_paths.models_dir, FOLEY), str(small_model.FOLDER)]
    # An entry made by extra_model_paths.yaml has no extensions, which would list every file there is.
    folder_paths.folder_names_and_paths[FOLEY] = (
        [*paths, *(path for path in ours if path not in paths)],
        set(folder_paths.supported_pt_extensions),
    )


def model_names(folders: tuple[str, ...], likely: str = "", small: str = "") -> list[str]:
    """File names for a widget, so ordered that a fresh node picks a useful one.

    The same name in a later folder gets the folder in front, so that a name once saved in a workflow keeps its meaning.

    Args:
        likely: names that contain this come first.
        small: the small model's file, which comes next; its other files are never likely.
    """
    return _likely_first(_locate(folders, folder_paths.get_filename_list), likely, small)


def tokenizer_names() -> list[str]:
    return _likely_first(_locate(TOKENIZER_FOLDERS, _json_files), "clap")


def model_path(name: str, folders: tuple[str, ...]) -> str:
    """Path of a name that `model_names` gave.

    Raises:
        MissingFileError: there is no such file (any more).
    """
    return _path(name, folders, folder_paths.get_filename_list)


def tokenizer_path(name: str) -> str:
    return _path(name, TOKENIZER_FOLDERS, _json_files)


def download_folders() -> dict[str, list[Path]]:
    """Where models lie, by ComfyUI's names of the folders; the first of each is where new files go."""
    found = {}
    for name in places.MODEL_FOLDERS:
        paths = [Path(path) for path in folder_paths.get_folder_paths(name) if path != str(small_model.FOLDER)]
        # ComfyUI lists a folder's old name first: `unet` before `diffusion_models`.
        found[name] = sorted(paths, key=lambda path: path.name != name)
    return found


def _locate(folders, list_files) -> dict[str, tuple[str, str]]:
    located: dict[str, tuple[str, str]] = {}
    for folder in folders:
        for name in list_files(folder):
            located.setdefault(f"{folder}/{name}" if name in located else name, (folder, name))
    return located


def _likely_first(names, likely: str, small: str = "") -> list[str]:
    def rank(name: str) -> int:
        base = name.rpartition("/")[2]
        if base in small_model.WEIGHTS:
            return 1 if base == small else 2
        return 0 if likely in name.lower() else 2

    return sorted(names, key=lambda name: (rank(name), name))


def _json_files(folder: str) -> list[str]:
    """ComfyUI lists a folder by the extensions of its weights; tokenizers are JSON and are looked up here.

    The small model's is left out: it fits no CLAP but the one beside it, where it is found anyway.
    """
    names = []
    for root in folder_paths.get_folder_paths(folder):
        if root == str(small_model.FOLDER):
            continue
        found, _ = folder_paths.recursive_search(root, excluded_dir_names=[".git"])
        names += folder_paths.filter_files_extensions(found, [TOKENIZER_ENDING])
    return sorted(set(names))


def _path(name: str, folders, list_files) -> str:
    folder, file_name = _locate(folders, list_files).get(name, (None, None))
    path = folder and folder_paths.get_full_path(folder, file_name)
    if not path:
        places = ", ".join(f"models/{folder}" for folder in folders)
        raise MissingFileError(
            f"The file `{name}` is not there.",
            f"It was looked for in {places} and the folders that extra_model_paths.yaml adds.",
            "Put the file into one of them, reload the page (R refreshes the lists) and pick it again.",
        )
    return path

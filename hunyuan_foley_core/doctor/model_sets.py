"""Which files make a model together, and which workflows that is enough for."""

import json
from dataclasses import dataclass
from pathlib import Path

from .. import places
from ..first_bytes import SAFETENSORS, TORCH
from .model_files import ModelFile

# What nodes of a workflow need of the model; the encoders load together.
NODE_NEEDS = {
    "FoleyLoadModel": ("transformer",), "FoleyLoadVAE": ("vae",),
    "FoleyLoadEncoders": ("siglip2", "synchformer", "clap", "tokenizer"),
}
NETWORKS = tuple(network for needs in NODE_NEEDS.values() for network in needs)


@dataclass(frozen=True)
class ModelSet:
    """A transformer with the other networks that fit it.

    Attributes:
        files: by network, the first that serves.
        missing: networks for which there is none.
    """

    name: str
    is_small: bool
    files: dict[str, str]
    missing: list[str]


@dataclass(frozen=True)
class Workflow:
    """A workflow of this package.

    Attributes:
        missing: files that its loaders name and that are not here; empty: it runs as it is.
        runs_with: sets that it runs with once they are chosen in its loaders.
    """

    name: str
    missing: list[str]
    runs_with: list[str]


def sets_of(files: list[ModelFile]) -> list[ModelSet]:
    """One for each whole transformer; one without, where other files of the user's are and no transformer."""
    whole = [file for file in files if file.problem is None]
    sets = [_set(file, whole) for file in whole if file.network == "transformer"]
    if all(one.is_small for one in sets) and not all(file.is_small for file in files):
        sets.append(_set(None, whole))
    return sets


def _set(transformer: ModelFile | None, whole: list[ModelFile]) -> ModelSet:
    is_small = transformer is not None and transformer.is_small
    chosen = {} if transformer is None else {"transformer": transformer.path}
    for file in whole:
        fits = transformer is None or all(transformer.widths.get(name) == width for name, width in file.widths.items())
        if fits and file.is_small == is_small and file.network != "transformer":
            chosen.setdefault(file.network, file.path)
    name = "the small model" if is_small else "the released model" if transformer is None else Path(transformer.path).name
    return ModelSet(name, is_small, chosen, [network for network in NETWORKS if network not in chosen])


def workflows(files: list[ModelFile], sets: list[ModelSet]) -> list[Workflow]:
    here = {Path(file.path).name for file in files if file.problem is None}
    found = []
    for path in sorted((places.PACK / "workflows").glob("*.json")):
        loaders = [node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"] if node["type"] in NODE_NEEDS]
        named = [value for node in loaders for value in node.get("widgets_values", ()) if _is_file(value)]
        needs = {network for node in loaders for network in NODE_NEEDS[node["type"]]}
        runs_with = [one.name for one in sets if not needs & set(one.missing)]
        found.append(Workflow(path.stem, [name for name in named if Path(name).name not in here], runs_with))
    return found


def _is_file(value: object) -> bool:
    return isinstance(value, str) and value.endswith((*TORCH, *SAFETENSORS))

"""The findings together."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import places, small_model
from . import advice, extra_paths, machine, model_files
from .model_files import ModelFile
from .model_sets import ModelSet, Workflow, sets_of, workflows


@dataclass(frozen=True)
class Report:
    """All findings, and what to do about them.

    Attributes:
        folders: where model files belong.
        looked: whether they were searched, which needs torch; else files, sets and workflows are empty.
    """

    machine: machine.Machine
    folders: list[str]
    looked: bool
    files: list[ModelFile]
    sets: list[ModelSet]
    workflows: list[Workflow]
    advice: list[advice.Advice]

    @property
    def is_well(self) -> bool:
        return not any(one.must for one in self.advice)

    def to_json(self) -> str:
        return json.dumps({"is_well": self.is_well, **asdict(self)}, indent=2)


def examine(models: Sequence[Path] = (), comfyui: Path | None = None) -> Report:
    """Looks at everything and changes nothing.

    Args:
        models: folders with model files beside those of ComfyUI.
        comfyui: ComfyUI's folder; None: the one around this package, if there is one.
    """
    wrong = advice.on_folders(models, comfyui)
    models = [path for path in models if path.is_dir()]
    comfyui = places.comfyui_around() if comfyui is None else comfyui if comfyui.is_dir() else None
    found = machine.look(comfyui)
    extra, problems = extra_paths.read(comfyui)
    names = [path for paths in places.model_folders(comfyui / "models").values() for path in paths] if comfyui else []
    folders = [path for path in dict.fromkeys((*names, *extra, *models, small_model.FOLDER)) if path.is_dir()]
    todo = [*wrong, *advice.on_software(found), *advice.on_extra_paths(problems)]
    if found.torch_error is not None or not all(package.version for package in found.needed):
        return Report(found, list(map(str, folders)), False, [], [], [], todo)
    files = model_files.find(folders)
    sets = sets_of(files)
    target = comfyui / "models" if comfyui else models[0] if models else Path("models")
    todo += advice.on_models(files, sets, target)
    return Report(found, list(map(str, folders)), True, files, sets, workflows(files, sets), todo)

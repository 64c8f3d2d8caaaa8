"""`ablate`: what each part of the design is worth, on the small model, with the same number of updates for each."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoint import read_state_dict
from ..errors import InputError
from ..pipeline import find_model_files
from ..train import checkpoints, features, loop
from ..train.command import CONFIGS
from ..train.config import build, differences, read_settings
from ..train.errors import TrainingError
from ..train.flow import FlowConfig, FlowObjective, initialise
from ..train.initialisation import xavier
from ..train.repa import Projector
from .exam import Exam, prepare_exam
from .machine import describe
from .report import without_nan
from .variants import VARIANTS, Variant, parameters

SPLIT_SEED = 0  # the same clips are held out in every run
WEIGHTS_STREAM, PROJECTOR_STREAM = 2, 3  # of random numbers
VALIDATION_BATCHES = 8
UNGUIDED = "_unguided"
RESULT = "result.json"
COLUMNS = {  # of the table: a figure's heading and number of digits
    "f1": ("onset F1, +-60 ms", 3), "f1_30ms": ("onset F1, +-30 ms", 3), "offset_ms": ("median offset, ms", 1),
    "material": ("material accuracy", 3), "flow": ("held-out flow loss", 4),
}

Figures = dict[str, float]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is run and how it is listened to.

    Attributes:
        variants: keys of VARIANTS.
        seeds: of initial weights, order of the clips, noise and dropout; the same ones for every variant.
        clips, seconds: how many held-out clips are sampled, and how long they are.
        steps, guidance_scale: of the sampler.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: int = 3
    clips: int = 40
    seconds: float = 2.0
    steps: int = 25
    guidance_scale: float = 4.5

    def __post_init__(self):
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise InputError(f"There is no variant {', '.join(unknown)}.", f"Known are {', '.join(VARIANTS)}.")
        if min(self.seeds, self.clips) < 1:
            raise InputError(f"Asked for {self.seeds} seeds and {self.clips} clips.", "Expected at least 1 of each.")


def run(config_file: str, overrides: Sequence[str], models: Path, plan: Plan, *, tell: Tell = lambda line: None) -> str:
    """Trains and scores what has not been, below the folder `out` of the settings, and writes the table there.

    Args:
        config_file, overrides: settings of the full model, as for `train`; `loop.steps` is the budget of each run.
        models: folder with the encoders and the DAC-VAE that the cache was made with.

    Returns:
        The table as Markdown; `ablation.md` and `ablation.json` in the folder hold it too.

    Raises:
        FoleyError: settings, data or weights that do not fit, or results of other settings in the folder.
    """
    shipped = CONFIGS / f"{config_file}.toml"
    full = build(FlowConfig, read_settings(shipped if shipped.is_file() else Path(config_file), list(overrides)))
    folder, exam, results = Path(full.out), None, {}
    for seed in range(plan.seeds):  # seed by seed, so that a stopped ablation has something on every variant
        for name in plan.variants:
            at = folder / f"{name}-{seed}"
            config = configured(VARIANTS[name], full, seed, at)
            found = _kept(at, config, plan)
            if found is None:
                exam = exam or _exam(models, plan)
                found = measure(name, config, exam, plan)
                _keep(at, config, plan, found)
                tell(f"{name}, seed {seed}: " + ", ".join(f"{key} {value:.4g}" for key, value in found["figures"].items()))
            for key, figures in _rows(name, found):
                results.setdefault(key, []).append(figures)
    about = {"machine": describe(torch.device("cpu"), torch.get_num_threads()), "plan": asdict(plan), "settings": asdict(full)}
    text, contents = as_markdown(results, about), without_nan({"about": about, "runs": results})
    (folder / "ablation.md").write_text(text, encoding="utf-8")
    (folder / "ablation.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    return text


def _exam(models: Path, plan: Plan) -> Exam:
    return prepare_exam(find_model_files(models, optional=("transformer",)), plan.clips, plan.seconds, plan.steps)


def configured(variant: Variant, full: FlowConfig, seed: int, folder: Path) -> FlowConfig:
    """The settings of one run: without previews and validation in between, which cost time."""
    quiet = replace(full.loop, seed=seed, keep=1)
    return variant.change(replace(full, out=str(folder), loop=quiet, preview=replace(full.preview, vae="")))


def measure(name: str, config: FlowConfig, exam: Exam, plan: Plan) -> dict[str, Any]:
    """Trains a variant, or goes on training it, and listens to it."""
    variant = VARIANTS[name]
    started = time.perf_counter()
    training, validation = features.split(config.data, SPLIT_SEED, exam.vae)
    training.seed = config.loop.seed
    objective = assembled(variant, config, training.sizes)
    settings = {**asdict(config), "variant": name}
    last = loop.train(objective, training, config.loop, Path(config.out), settings=settings)
    seconds = time.perf_counter() - started
    (last / checkpoints.TRAINING).unlink(missing_ok=True)
    transformer = objective.transformer
    transformer.load_state_dict(read_state_dict(last / checkpoints.WEIGHTS)[0])
    transformer.eval().requires_grad_(False)
    found = {"parameters": parameters(config.model), "seconds": seconds}
    found["figures"] = exam.figures(transformer, plan.guidance_scale) | {"flow": _flow(objective, validation)}
    if variant.unguided:
        found["unguided"] = exam.figures(transformer, 1.0) | {"flow": found["figures"]["flow"]}
    return found


def assembled(variant: Variant, config: FlowConfig, sizes: features.FeatureSizes) -> FlowObjective:
    """The objective of a run; variants that share a seed begin with the same weights where they share layers."""
    transformer = variant.network(config.model)
    initialise(transformer, loop.seeded(config.loop.seed, WEIGHTS_STREAM))
    projector = None
    if config.repa.weight:
        if sizes.teacher is None:
            raise TrainingError(
                f"The cache {config.data.cache} has no features of a teacher.", "Expected some, for REPA.",
                "Prepare it with --teacher log_mel.",
            )
        projector = Projector(config.model.hidden_size, config.repa.width, sizes.teacher)
        xavier(projector, loop.seeded(config.loop.seed, PROJECTOR_STREAM))
    objective = FlowObjective(config, transformer, dict(transformer.named_parameters()), projector)
    objective.reader = variant.reader(config.repa.block if projector is not None else None, config.checkpointing)
    return objective


@torch.no_grad()
def _flow(objective: FlowObjective, validation: features.CachedClips) -> float:
    """The flow loss on held-out batches, the same ones with the same noise for every run."""
    losses = [
        objective.validate(validation(number), loop.seeded(SPLIT_SEED, number))["flow"]
        for number in range(VALIDATION_BATCHES)
    ]
    return float(np.mean(losses))


def _identity(config: FlowConfig, plan: Plan) -> dict[str, Any]:
    """What a stored result depends on."""
    listened = {key: value for key, value in asdict(plan).items() if key not in ("variants", "seeds")}
    return json.loads(json.dumps({"config": asdict(config), "plan": listened}))


def _keep(folder: Path, config: FlowConfig, plan: Plan, found: dict[str, Any]) -> None:
    temporary = folder / f".{RESULT}"
    temporary.write_text(json.dumps(_identity(config, plan) | {"found": found}, indent=1), encoding="utf-8")
    temporary.replace(folder / RESULT)


def _kept(folder: Path, config: FlowConfig, plan: Plan) -> dict[str, Any] | None:
    """The result of an earlier run; None if there is none."""
    if not (folder / RESULT).is_file():
        return None
    kept = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    found = kept.pop("found")
    if changed := differences(kept, _identity(config, plan)):
        lines = "; ".join(f"{name} from {before!r} to {after!r}" for name, (before, after) in changed.items())
        raise TrainingError(
            f"{folder} has a result of other settings: {lines}.", "Expected one budget for all runs.",
            "Put these back, or choose another folder with out=...",
        )
    return found


def _rows(name: str, found: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The rows of the table that a run adds to."""
    size = {"parameters": found["parameters"], "seconds": found["seconds"]}
    rows = [(name, found["figures"] | size)]
    return rows + ([(name + UNGUIDED, found["unguided"] | size)] if "unguided" in found else [])


def as_markdown(results: dict[str, list[Figures]], about: dict[str, Any]) -> str:
    """A row for each variant: the mean over seeds +- standard deviation, a star where that is apart from the full model's."""
    settings, plan = about["settings"], about["plan"]
    lines = [
        "machine: " + ", ".join(f"{name} {value}" for name, value in about["machine"].items() if value is not None) + "  ",
        f"budget: {settings['loop']['steps']} updates of {settings['data']['batch']} clips each, {plan['seeds']} seeds  ",
        f"scored on {plan['clips']} held-out clips of {plan['seconds']:g} s, {plan['steps']} steps, "
        f"guidance {plan['guidance_scale']:g}  ", "",
        "| variant | parameters | minutes | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for name, runs in results.items():
        cells = [cell(runs, results.get("full", runs), column) for column in COLUMNS]
        minutes = f"{np.mean([run['seconds'] for run in runs]) / 60:.1f}"
        lines.append(f"| {_words(name)} | {runs[0]['parameters'] / 1e6:.2f} M | {minutes} | {' | '.join(cells)} |")
    lines += ["", f"Mean +- standard deviation over {plan['seeds']} seeds. * : apart from the full model by more than both "
              "deviations together; anything else may be chance."]
    return "\n".join(lines) + "\n"


def cell(runs: list[Figures], full: list[Figures], column: str) -> str:
    """`mean +- deviation`, with a star where it is apart from that of the full model."""
    digits = COLUMNS[column][1]
    (value, spread), (other, others) = (_spread([run[column] for run in of]) for of in (runs, full))
    if len(runs) < 2:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} +- {spread:.{digits}f}{' *' if abs(value - other) > spread + others else ''}"


def _spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; that of a single value is unknown, so anything could be within it."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("inf")


def _words(name: str) -> str:
    base = name.removesuffix(UNGUIDED)
    return VARIANTS[base].what + (", sampled without guidance" if name.endswith(UNGUIDED) else "")

"""Settings of a run: frozen dataclasses filled from a small TOML file and `key=value` words.

Only what TOML and JSON write alike is read: `[section]`, `key = value` on one line, numbers, "strings", true, false,
[lists], and comments. So one rule serves file and command line, and Python 3.10, which cannot read TOML, needs no
parser from outside.
"""

import difflib
import json
import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import TrainingError

Settings = dict[str, Any]
Config = TypeVar("Config")

SCHEDULES = ("constant", "cosine", "step")
_SECTION = re.compile(r"\[([\w.]+)\]\s*(#.*)?$")
_ENTRY = re.compile(r"([\w.]+)\s*=\s*(.+)$")
# A backslash that stands for no quote, backslash or Unicode number: in a setting, part of a path as Windows writes it.
_LONE_BACKSLASH = re.compile(r'(?<!\\)(?:\\\\)*\\(?!["\\]|u[0-9a-fA-F]{4})')


@dataclass(frozen=True)
class LoopConfig:
    """How long, how often and how smoothly.

    Attributes:
        steps: updates in all.
        accumulate: batches whose gradients make one update.
        warmup_steps: updates over which the learning rate rises linearly from 0.
        schedule: what follows: "constant", "cosine" (to `final_rate`), or "step" (a tenth at 80 % and again at 90 %).
        final_rate: the cosine's end, as a share of the learning rate.
        ema: decay of the averaged weights that validation and export use, 0 to 1; 0: the newest weights.
        log_every, validate_every, save_every: in updates.
        tensorboard: write the figures for TensorBoard as well, which has to be installed.
        validation_batches: how many of the held-out batches to use, always the same ones.
        keep: newest checkpoints that stay.
        seed: of everything random; the randomness of an update depends on this and its number alone.
    """

    steps: int
    accumulate: int
    warmup_steps: int
    schedule: str
    final_rate: float
    ema: float
    log_every: int
    tensorboard: bool
    validate_every: int
    validation_batches: int
    save_every: int
    keep: int
    seed: int

    def __post_init__(self):
        counts = ("steps", "accumulate", "log_every", "validate_every", "validation_batches", "save_every", "keep")
        at_least(self, "loop", 1, *counts)
        at_least(self, "loop", 0, "warmup_steps", "seed")
        one_of("loop.schedule", self.schedule, SCHEDULES)
        if not 0 <= self.ema < 1:
            raise TrainingError(f"loop.ema is {self.ema}.", "Expected 0 up to but not including 1.", "Try 0.999.")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW, or AdamW and Muon.

    Attributes:
        learning_rate: AdamW's.
        matrix_rate: Muon's, for the matrices of linear layers between hidden ones; 0: AdamW moves these too.
        betas: AdamW's.
        clip: largest norm of the gradients together; longer ones are shortened to it.
    """

    learning_rate: float
    matrix_rate: float
    betas: tuple[float, ...]
    weight_decay: float
    clip: float

    def __post_init__(self):
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            given = list(self.betas)
            raise TrainingError(f"betas is {given}.", "Expected two numbers from 0 to below 1.", "Change it.")
        at_least(self, "optimiser", 0, "learning_rate", "matrix_rate", "weight_decay")


def at_least(config: Any, section: str, least: int, *names: str) -> None:
    """Raises TrainingError if a field of a config dataclass is below `least`."""
    for name in names:
        if not getattr(config, name) >= least:  # NaN is not, either
            value = getattr(config, name)
            raise TrainingError(f"{section}.{name} is {value}.", f"Expected {least} or more.", "Change it.")


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises TrainingError unless a setting is one of the words it may be."""
    if value not in known:
        raise TrainingError(f"{name} is {value!r}.", f"Known are {', '.join(known)}.", "Change it.")


def read_settings(path: Path, overrides: list[str] = ()) -> Settings:
    """The settings in a file, nested by section, with `section.key=value` words laid over them.

    Raises:
        TrainingError: no such file, a line or word that cannot be read, or a word for a key the file does not have.
    """
    settings: Settings = {}
    section = settings
    for number, line in enumerate(_text(path).splitlines(), 1):
        line, place = line.strip(), f"Line {number} of {path.name}"
        if not line or line.startswith("#"):
            continue
        if head := _SECTION.match(line):
            section = _descend(settings, head[1].split("."))
            continue
        key, value = _entry(line, place)
        section[key] = value
    for word in overrides:
        _override(settings, word)
    return settings


def _text(path: Path) -> str:
    """What a configuration file says, with or without the mark that editors of Windows put before UTF-8."""
    if not path.is_file():
        raise TrainingError(f"There is no file {path}.", "Expected a training configuration.", "Check the name.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path} cannot be read: {error}.", "Expected a training configuration, text in UTF-8.",
            "Save it as UTF-8; editors ask for the encoding where they ask for the name.",
        ) from error


def _entry(line: str, place: str) -> tuple[str, Any]:
    match = _ENTRY.match(line)
    if match is None:
        raise TrainingError(f"{place} is `{line}`.", "Expected `key = value` or `[section]`.", "Correct it.")
    try:
        value, end = json.JSONDecoder().raw_decode(match[2])
    except json.JSONDecodeError:
        value, end = None, 0
    _check_backslashes(match[1], match[2][:end] or match[2], place)
    rest = match[2][end:].strip()
    if end == 0 or (rest and not rest.startswith("#")):
        raise TrainingError(
            f"{place} gives `{match[1]}` the value `{match[2]}`.",
            'Expected a number, true, false, a "string" in double quotes, or a [list] of them.', "Correct it.",
        )
    return match[1], value


def _check_backslashes(key: str, value: str, place: str) -> None:
    """Refuses a string as Windows writes paths, of which `\\f` and `\\n` would become a form feed and a new line."""
    if value.startswith(('"', "[")) and _LONE_BACKSLASH.search(value):
        raise TrainingError(
            f"{place} gives `{key}` the value `{value}`, with a backslash.",
            "Between double quotes a backslash begins a special character.", "In paths, write / or \\\\ in place of \\.",
        )


def _override(settings: Settings, word: str) -> None:
    """Lays `a.b=value` over the settings; a value that is no number, list, true or false is a string."""
    try:
        key, value = _entry(word, "An argument")
    except TrainingError:
        key, separator, value = word.partition("=")
        if not separator or value.lstrip().startswith('"'):
            raise
    *path, name = key.strip().split(".")
    section = _descend(settings, path)
    if name not in section:
        raise _unknown(key, [".".join([*path, known]) for known in section], "The configuration file")
    section[name] = value


def _descend(settings: Settings, path: list[str]) -> Settings:
    for name in path:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise TrainingError(f"`{name}` is a value.", "Expected a section of that name.", "Check the dots.")
    return settings


def build(kind: type[Config], settings: Settings, section: str = "") -> Config:
    """A config dataclass from settings that name each of its fields, and nothing else, with values of their types.

    Raises:
        TrainingError: a field missing, unknown or of another type; all missing ones are listed.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    for name in settings:
        if name not in names:
            raise _unknown(section + name, [section + known for known in names], "Training")
    if missing := [section + name for name in names if name not in settings]:
        lacking = ", ".join(missing)
        raise TrainingError(f"The configuration lacks {lacking}.", "Every setting is written out.", "Add it.")
    return kind(**{name: _value(hints[name], settings[name], section + name) for name in names})


def _value(kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind) and isinstance(value, dict):
        return build(kind, value, f"{name}.")
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(get_args(kind)[0], item, name) for item in value)
    if type(value) is not kind:
        wanted = "a section" if is_dataclass(kind) else "a list" if get_origin(kind) is tuple else kind.__name__
        raise TrainingError(f"`{name}` is {value!r}.", f"Expected {wanted}.", "Correct it in the file or the argument.")
    return value


def _unknown(key: str, known: list[str], who: str) -> TrainingError:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Known here: {', '.join(known)}."
    return TrainingError(f"{who} has no setting `{key}`.", hint, "Correct the name.")


def differences(old: Settings, new: Settings, section: str = "") -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by dotted name: (old, new), None where one side lacks it."""
    found = {}
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= differences(before, after, f"{section}{name}.")
        elif before != after:
            found[section + name] = (before, after)
    return found

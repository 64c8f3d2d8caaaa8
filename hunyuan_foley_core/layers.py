"""Layers: several sounds for one clip, each a stem that is made on its own, and their mix.

A stem lies in a folder as FLAC beside a JSON file with all it was made from. While that stays the same the stem is not
made again, so levels and mutes change only the mix, and a stem changed by hand in another program stays as it is. No
file is replaced that was not made here.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import media
from .conditions import DEFAULT_NEGATIVE_PROMPT, VideoFeatures
from .errors import InputError, MissingConnectionError
from .media.output import replacing
from .networks import Networks
from .pipeline import DEFAULT_SECONDS, check_scenes, check_seconds
from .sampling import check_seed
from .scenes import decode_scenes, kept_cuts
from .text_files import read_text
from .timing import LATENT_RATE, SAMPLE_RATE, latent_frames

MAX_LAYERS = 8
MIX = "mix"
LARGEST_GAIN_DB = 60.0
_NAME = re.compile(r"[\w][\w .-]*")
_WHOLE_DIGEST = 64 << 20  # bytes up to which a file's digest is of all of it
_PIECES, _PIECE = 64, 1 << 20
_KINDS = {str: "text in double quotes", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Layer:
    """One of the sounds of a clip.

    Attributes:
        name: of its files, unlike those of the other layers.
        gain_db: level in the mix; the stem itself is as made.
        video: whether it is made to the picture; else the words alone make it.
        seconds: its length where that is not the clip's; silence follows. Only without picture.
    """

    name: str
    prompt: str = ""
    negative: str = DEFAULT_NEGATIVE_PROMPT
    gain_db: float = 0.0
    mute: bool = False
    seed: int = 0
    video: bool = True
    seconds: float = 0.0


def read_layers(path: Path) -> list[Layer]:
    """The layers in a JSON file: {"layers": [{"name": ..., "prompt": ..., ...}, ...]}.

    Raises:
        InputError: no such file, no JSON, or layers that cannot be used; the message says where.
    """
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise InputError(f"The layers cannot be read from {path} ({error}).", "Expected a JSON file.") from error
    entries = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        count = f"{len(entries)} layers" if isinstance(entries, list) else "no list `layers`"
        raise InputError(f"{path.name} has {count}.", f"Expected 1 to {MAX_LAYERS}.", 'Write {"layers": [{...}, ...]}.')
    layers = [_layer(entry, number) for number, entry in enumerate(entries, 1)]
    names = [layer.name.lower() for layer in layers]
    for name in names:
        if names.count(name) > 1 or name == MIX:
            raise InputError(f"{path.name} has a layer `{name}` too many.", f"Names differ, and are not `{MIX}`.")
    return layers


def _layer(entry, number: int) -> Layer:
    if not isinstance(entry, dict):
        raise InputError(f"Layer {number} is {entry!r}.", "Expected settings in braces, such as {\"name\": \"rain\"}.")
    known = {field.name: field.type for field in fields(Layer)}
    values = {}
    for key, value in entry.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else f"Known are {', '.join(known)}."
            raise InputError(f"Layer {number} has a setting `{key}`.", hint)
        values[key] = float(value) if known[key] is float and type(value) is int else value
        if type(values[key]) is not known[key]:
            raise InputError(f"`{key}` of layer {number} is {value!r}.", f"Expected {_KINDS[known[key]]}.")
    return check_layer(Layer(**{"name": f"layer {number}", **values}))


def check_layer(layer: Layer) -> Layer:
    """The layer itself. InputError where a value is out of range."""
    if not _NAME.fullmatch(layer.name):
        raise InputError(f"A layer is called `{layer.name}`.", "Expected letters, digits, spaces, dots and dashes.")
    if not abs(layer.gain_db) <= LARGEST_GAIN_DB:
        raise InputError(
            f"The gain of `{layer.name}` is {layer.gain_db} dB.",
            f"Expected -{LARGEST_GAIN_DB:g} to {LARGEST_GAIN_DB:g}.",
        )
    check_seed(layer.seed)
    if layer.seconds and (layer.video or not 1 / LATENT_RATE <= layer.seconds < math.inf):
        raise InputError(
            f"`{layer.name}` is to be {layer.seconds} s long.",
            f'Expected 0 (as long as the clip) or {1 / LATENT_RATE:g} and more, and that only for a layer with "video": false.',
        )
    return layer


@dataclass(frozen=True)
class Stem:
    """A layer's sound [channels, N] as it lies in its file, and whether it was made just now."""

    layer: Layer
    waveform: Tensor
    sample_rate: int
    is_new: bool


class StemFolder:
    """Makes the stems of a clip into a folder, or finds them there.

    Args:
        video: the clip; None: all layers are made from their words.
        networks: its settings say where the video cuts.
        seconds: length without a video, or the most of it to give sound to; None: 8 s, or all of it.
        report: receives warnings about the video.

    InputError for cuts that are not in the video, or without one.
    """

    def __init__(
        self, folder: Path, networks: Networks, video: Path | None, seconds: float | None, report: media.DecodeReport
    ):
        if seconds is not None:
            check_seconds(seconds)
        self.folder, self.networks, self.video, self.seconds, self.report = folder, networks, video, seconds, report
        check_scenes(networks.settings.cuts, video)
        self.cuts = kept_cuts(networks.settings.cuts, media.picture_length(video), seconds) if networks.settings.cuts else []

    def check(self, layers: Sequence[Layer]) -> None:
        """To be asked before any is made. InputError where a file has a name that is needed and was not made here."""
        for layer in layers:
            sound, notes = self._paths(layer)
            if notes.exists() and not _is_recipe(_read(notes)):
                raise InputError(
                    f"{notes} is there and does not say what a stem was made from.", "It is not overwritten.",
                    f"Rename the layer `{layer.name}`, or choose another folder.",
                )
            if sound.exists() and not notes.exists():
                raise _foreign(sound, "nothing beside it says from what")
        mix_file = self.folder / f"{MIX}.flac"
        if mix_file.exists() and not any(_is_recipe(_read(notes)) for notes in self.folder.glob("*.json")):
            raise _foreign(mix_file, "no stem lies beside it")

    def stem(self, layer: Layer) -> Stem:
        sound, notes = self._paths(layer)
        recipe = self._recipe(layer)
        is_new = not (sound.is_file() and _read(notes) == recipe)
        if is_new:
            waveform = self._make(layer)
            _write(notes, {**recipe, "in work": True})  # the sound must not be taken for that of older or newer notes
            media.write_audio(sound, waveform, SAMPLE_RATE)
            _write(notes, recipe)
        return Stem(layer, *media.read_audio(sound), is_new)

    def _paths(self, layer: Layer) -> tuple[Path, Path]:
        """Where the sound of a layer lies, and the notes of what it was made from."""
        return self.folder / f"{layer.name}.flac", self.folder / f"{layer.name}.json"

    def _make(self, layer: Layer) -> Tensor:
        features = self._features if layer.video else None
        frames = latent_frames(layer.seconds or self._clip_seconds)
        latents = self.networks.make(
            layer.prompt, layer.negative, features, frames, seed=layer.seed, stage=f"making {layer.name}"
        )
        return decode_scenes(self.networks.decode, latents, features.cuts if features is not None else ())[0]

    @cached_property
    def _features(self) -> VideoFeatures | None:
        if self.video is None:
            return None
        return self.networks.watch(self.video, 0.0, self.seconds, self.report, cuts=self.cuts)

    @property
    def _clip_seconds(self) -> float:
        return self._features.seconds if self._features is not None else self.seconds or DEFAULT_SECONDS

    def _recipe(self, layer: Layer) -> dict:
        """All that the sound of a layer depends on, as JSON gives it back."""
        made_of = asdict(layer)
        for only_mixed in ("name", "gain_db", "mute"):
            del made_of[only_mixed]
        settings = asdict(self.networks.settings)
        for other in ("prompt", "negative_prompt", "seconds", "seed", "device"):
            del settings[other]
        recipe = {"layer": made_of, "sampling": settings, "clip_seconds": self.seconds, "files": self._digests}
        return json.loads(json.dumps(recipe, default=str))

    @cached_property
    def _digests(self) -> dict[str, str]:
        used = {**asdict(self.networks.files), "lora": self.networks.settings.lora, "video": self.video}
        return {name: digest(path) for name, path in used.items() if path is not None}


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None


def _write(path: Path, recipe: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def _is_recipe(content) -> bool:
    return isinstance(content, dict) and {"layer", "sampling", "clip_seconds", "files"} <= content.keys()


def _foreign(sound: Path, why: str) -> InputError:
    return InputError(
        f"{sound} is there, and {why}.", "A sound that was not made here is not overwritten.",
        "Move it away (or delete it, to have it made again), or choose another folder.",
    )


def digest(path: str | Path) -> str:
    """SHA-256 of a file; of one above 64 MB, of its size and 64 MB spread over it: weights change everywhere at once.

    Raises:
        InputError: the file cannot be read.
    """
    found = hashlib.sha256()
    try:
        size = Path(path).stat().st_size
        found.update(str(size).encode())
        with open(path, "rb") as file:
            if size <= _WHOLE_DIGEST:
                found.update(file.read())
            else:
                for piece in range(_PIECES):
                    file.seek((size - _PIECE) * piece // (_PIECES - 1))
                    found.update(file.read(_PIECE))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).", "Expected a file.", "Check its name.") from error
    return found.hexdigest()


def mix(
    sounds: Sequence[Tensor], sample_rates: Sequence[int], gains_db: Sequence[float], muted: Sequence[bool]
) -> tuple[Tensor, Tensor, int]:
    """Layers at their levels and all together.

    Args:
        sounds: each [channels, N]. Silence follows the shorter ones; one channel is heard in all of the others'.

    Returns:
        The mix [channels, N], the stems at their levels [layers, channels, N], which add up to it (silence for a muted
        one), and the sample rate, the highest of theirs.

    Raises:
        InputError: nothing to mix, or channels that cannot be matched.
    """
    if not sounds:
        raise MissingConnectionError("No layer is connected.", "Expected 1 to 8.", "Connect the sound of a layer.")
    rate = max(sample_rates)
    sounds = [media.resample(sound, own, rate) for sound, own in zip(sounds, sample_rates, strict=True)]
    channels, length = (max(sound.shape[axis] for sound in sounds) for axis in (0, 1))
    if any(sound.shape[0] not in (1, channels) for sound in sounds):
        counts = ", ".join(str(sound.shape[0]) for sound in sounds)
        raise InputError(
            f"The layers have {counts} channels.", f"Expected 1 or {channels} in each.", "Mix the others down first."
        )
    stems = torch.stack([
        F.pad(sound, (0, length - sound.shape[1])).expand(channels, -1) * (0.0 if mute else 10 ** (gain / 20))
        for sound, gain, mute in zip(sounds, gains_db, muted, strict=True)
    ])
    return stems.sum(dim=0), stems, rate

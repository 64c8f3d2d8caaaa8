"""From the new sound, the video's own and what is wanted of them to the track that goes onto the picture."""

import math
from dataclasses import dataclass, field

import torch

from ..errors import InputError, NoSoundError
from .audio import resample, to_mono, to_stereo
from .containers import Codec
from .ducking import Ducking, ducked
from .filters import add_filter, run_filters
from .loudness import LOWEST_CEILING, Level, check_target, true_peak, with_loudness
from .output import check_waveform, coded
from .track import mixed, placed

MODES = ("replace", "mix")
DUCKED = ("none", "original", "foley")
CHANNELS = ("as mixed", "mono", "stereo")
MAX_WIDTH = 2.0
RATES = (8_000, 192_000)  # lowest and highest
_CODED_ROUNDS, _CODED_MARGIN = 4, 0.1  # tries, and dB more than what coding added last time
_SIDE_DELAY_MS = 12  # of a mono sound's copy in its sides

Sound = tuple[torch.Tensor, int]  # waveform [channels, N] and its sample rate


@dataclass(frozen=True)
class Mix:
    """What becomes of the new sound ("foley") and the video's own ("original").

    Attributes:
        mode: "replace" the original, or "mix" with it.
        gain_db, original_gain_db: of each, before everything else.
        offset: seconds the new sound begins after the picture's time 0 (negative: its beginning is cut).
        duck: which one goes down while the other is heard: "none", "original" or "foley"; when mixing.
        ducking: how.
        loudness: of the result in LUFS; None leaves it as it is.
        true_peak: ceiling in dBTP, with `loudness`.
        width: of the new sound: 0 mono, 1 as it is, up to 2 wider. Of a mono sound, above 1, a copy 12 ms late goes to
            the sides with opposite signs, so that the sum of both channels stays what it was.
        channels: of the result: "as mixed", "mono" or "stereo".
    """

    mode: str = "replace"
    gain_db: float = 0.0
    original_gain_db: float = 0.0
    offset: float = 0.0
    duck: str = "none"
    ducking: Ducking = field(default_factory=Ducking)
    loudness: float | None = None
    true_peak: float = -1.0
    width: float = 1.0
    channels: str = "as mixed"

    def __post_init__(self):
        for name, value, known in (
            ("mode", self.mode, MODES), ("duck", self.duck, DUCKED), ("channels", self.channels, CHANNELS)
        ):
            if value not in known:
                raise InputError(f"The {name} is {value!r}.", f"Known are {', '.join(known)}.", "Choose one of them.")
        for name in ("gain_db", "original_gain_db", "offset", "width", "true_peak"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(
                    f"The {name.removesuffix('_db').replace('_', ' ')} is {getattr(self, name)}.",
                    "It must be a finite number.", "Set it to 0.",
                )
        if self.duck != "none" and self.mode != "mix":
            raise InputError(
                f"The {self.duck} is to be ducked, and the mode is {self.mode}.",
                "Ducking needs both sounds.", "Mix, or duck nothing.",
            )
        if not 0 <= self.width <= MAX_WIDTH:
            raise InputError(f"The width is {self.width:g}.", f"It must lie between 0 and {MAX_WIDTH:g}; 1 is as it is.")
        check_target(self.loudness, self.true_peak)


@dataclass(frozen=True)
class Track:
    """A finished sound track.

    Attributes:
        waveform: float32 [channels, N], not cut at full scale.
        level: as measured, where a loudness was asked for.
        warnings: one sentence each, for the user.
    """

    waveform: torch.Tensor
    sample_rate: int
    level: Level | None = None
    warnings: tuple[str, ...] = ()


def mixdown(
    waveform: torch.Tensor,
    sample_rate: int,
    seconds: float,
    *,
    original: Sound | None = None,
    rate: int | None = None,
    mix: Mix | None = None,
    coding: Codec | None = None,
) -> Track:
    """The sound of a picture, exactly as long as it: what `mux` writes.

    Args:
        waveform: float [channels, N]; more than two channels become stereo.
        seconds: length of the picture.
        original: its own sound, needed to mix.
        rate: of the result; None: `sample_rate`.
        coding: how the track will be coded, so that its true peaks are still below the ceiling then.

    Returns:
        A track of round(seconds * rate) samples.
    """
    mix, rate = mix or Mix(), check_sound_rate(rate) or int(sample_rate)
    length = round(seconds * rate)
    foley = to_stereo(resample(check_waveform(waveform, sample_rate), int(sample_rate), rate))
    foley = placed(_widened(foley, rate, mix.width), round(mix.offset * rate), length, mix.gain_db)
    track = foley if mix.mode == "replace" else _with_original(foley, original, rate, mix)
    track = _channels(track, mix.channels)
    if mix.loudness is None or not track.numel():
        return Track(track, rate)
    return _loud(track, rate, mix, coding if coding is not None and coding.bit_rate else None)


def _loud(track: torch.Tensor, rate: int, mix: Mix, coding: Codec | None) -> Track:
    """At the loudness asked for; with a codec that changes samples, its ceiling is lowered until the coded sound keeps it."""
    ceiling = mix.true_peak
    for _ in range(_CODED_ROUNDS if coding else 1):
        made, level, warnings = with_loudness(track, rate, mix.loudness, ceiling)
        if coding is None or level.true_peak == -math.inf:
            break
        over = true_peak(coded(made, rate, coding), rate) - mix.true_peak
        if over <= 0 or ceiling - over < LOWEST_CEILING:
            break
        ceiling -= over + _CODED_MARGIN
    return Track(made, rate, level, tuple(warnings))


def check_sound_rate(rate: int | None) -> int | None:
    """`rate` itself; InputError unless None or a whole number of Hz that files hold."""
    if rate is not None and not (int(rate) == rate and RATES[0] <= rate <= RATES[1]):
        raise InputError(
            f"The output rate is {rate} Hz.", f"It must be a whole number from {RATES[0]} to {RATES[1]} Hz.",
            "48000 is usual for video.",
        )
    return None if rate is None else int(rate)


def _with_original(foley: torch.Tensor, original: Sound | None, rate: int, mix: Mix) -> torch.Tensor:
    if original is None:
        raise NoSoundError(
            "The video has no sound to mix with.", "Mixing needs the video's own track.", "Replace the sound instead."
        )
    own = to_stereo(resample(check_waveform(*original), original[1], rate))
    own = placed(own, 0, foley.shape[1], mix.original_gain_db)
    if mix.duck == "foley":
        foley = ducked(foley, own, rate, mix.ducking)
    elif mix.duck == "original":
        own = ducked(own, foley, rate, mix.ducking)
    return mixed(foley, own)


def _channels(track: torch.Tensor, channels: str) -> torch.Tensor:
    if channels == "mono":
        return to_mono(track)
    return track.expand(2, -1) if channels == "stereo" else track


def _widened(waveform: torch.Tensor, rate: int, width: float) -> torch.Tensor:
    """[1 or 2, N] with its sides (half the difference of left and right) made `width` times as strong."""
    if width == 1 or not waveform.numel():
        return waveform
    if waveform.shape[0] == 1:
        return waveform if width < 1 else _with_sides(waveform, rate, width - 1)
    return run_filters([waveform], rate, lambda graph, sources: add_filter(graph, sources[0], "extrastereo", m=width, c=0), 2)


def _with_sides(waveform: torch.Tensor, rate: int, strength: float) -> torch.Tensor:
    def build(graph, sources):
        copies = add_filter(graph, sources[0], "asplit", outputs=2)
        late = add_filter(graph, (copies, 1), "adelay", delays=_SIDE_DELAY_MS)
        both = add_filter(graph, [(copies, 0), late], "amerge", inputs=2)
        return add_filter(graph, both, "pan", args=f"stereo|c0=c0+{strength}*c1|c1=c0-{strength}*c1")

    return run_filters([waveform], rate, build, 2)

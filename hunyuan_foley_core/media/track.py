"""Laying sound along the time of a picture."""

import torch

from ..errors import MediaError
from .audio import resample, to_stereo
from .output import check_waveform

Sound = tuple[torch.Tensor, int]  # waveform [channels, N] and its sample rate


def placed(waveform: torch.Tensor, at: int, length: int, gain_db: float) -> torch.Tensor:
    """[channels, length]: the waveform from sample `at` on, cut or followed by silence."""
    waveform = waveform[:, max(-at, 0) :]
    at = max(at, 0)
    kept = waveform[:, : max(length - at, 0)] * 10 ** (gain_db / 20)
    track = torch.zeros(waveform.shape[0], length)
    track[:, at : at + kept.shape[1]] = kept
    return track


def mixed(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Both at once, [channels, N]; mono goes to every channel of the other."""
    channels = max(one.shape[0], other.shape[0])
    return one.expand(channels, -1) + other.expand(channels, -1)


def sound_track(
    waveform: torch.Tensor,
    sample_rate: int,
    seconds: float,
    *,
    original: Sound | None = None,
    mode: str = "replace",
    gain_db: float = 0.0,
    original_gain_db: float = 0.0,
    offset: float = 0.0,
) -> torch.Tensor:
    """The sound of a picture that is in no file: what `mux` writes, at the rate given and not cut at full scale.

    Args:
        waveform: float [channels, N]; more than two channels become stereo.
        seconds: length of the picture.
        original: its own sound, needed to mix.

    Returns:
        float32 [channels, round(seconds * sample_rate)].
    """
    length = round(seconds * sample_rate)
    waveform = to_stereo(check_waveform(waveform, sample_rate))
    track = placed(waveform, round(offset * sample_rate), length, gain_db)
    if mode == "replace":
        return track
    if original is None:
        raise MediaError(
            "The video has no sound to mix with.", "Mixing needs the video's own track.", "Replace the sound instead."
        )
    own = resample(to_stereo(check_waveform(*original)), original[1], sample_rate)
    return mixed(track, placed(own, 0, length, original_gain_db))

"""Laying sound along the time of a picture."""

import torch


def placed(waveform: torch.Tensor, at: int, length: int, gain_db: float) -> torch.Tensor:
    """[channels, length]: the waveform from sample `at` on, cut or followed by silence."""
    waveform = waveform[:, max(-at, 0) :]
    at = max(at, 0)
    kept = waveform[:, : max(length - at, 0)]
    track = torch.zeros(waveform.shape[0], length)
    track[:, at : at + kept.shape[1]] = kept
    return track.mul_(10 ** (gain_db / 20))


def mixed(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Both at once, [channels, N]; mono goes to every channel of the other."""
    channels = max(one.shape[0], other.shape[0])
    return one.expand(channels, -1) + other.expand(channels, -1)

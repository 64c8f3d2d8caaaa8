"""How well a codec keeps a sound, in figures to report; losses are for training."""

import torch
from einops import rearrange, reduce
from torch import Tensor

from .spectra import log_mel, spectrum

MEL_WINDOWS = (2048, 512, 128)
_TINY = 1e-10


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, one per clip [B] of [B,1,N] (Le Roux et al., 1811.02508)."""
    estimate, target = (rearrange(x - x.mean(dim=-1, keepdim=True), "B 1 N -> B N") for x in (estimate, target))
    scale = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + _TINY)
    kept, lost = scale * target, estimate - scale * target
    return 10 * torch.log10((kept.square().sum(-1) + _TINY) / (lost.square().sum(-1) + _TINY))


def mel_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of log10 mel spectra over three fixed windows, one per clip [B] of [B,1,N]."""
    distances = []
    for window in MEL_WINDOWS:
        ours, theirs = (log_mel(spectrum(waveform, window).abs()) for waveform in (estimate, target))
        distances.append(reduce((ours - theirs).abs(), "B M T -> B", "mean"))
    return torch.stack(distances).mean(dim=0)


def level_error(estimate: Tensor, target: Tensor) -> Tensor:
    """How much louder the estimate is than the target, in dB, one per clip [B] of [B,1,N]; negative: quieter."""
    power = [reduce(waveform.square(), "B 1 N -> B", "mean") + _TINY for waveform in (estimate, target)]
    return 10 * torch.log10(power[0] / power[1])


def latent_statistics(mean: Tensor, logvar: Tensor) -> dict[str, float]:
    """What a transformer will have to model: the spread of posterior means and sigmas [B,C,L].

    Returns:
        latent_std: over all values of the means; aim near 1.
        latent_std_least, latent_std_most: the narrowest and the widest channel.
        latent_sigma: mean posterior standard deviation; near 1 a channel carries nothing.
        latent_active: share of the channels whose KL divergence from a standard normal exceeds 0.01 a value.
    """
    spread = rearrange(mean, "B C L -> C (B L)").std(dim=1)
    divergence = reduce(0.5 * (mean.square() + logvar.exp() - 1 - logvar), "B C L -> C", "mean")
    return {
        "latent_std": mean.std().item(),
        "latent_std_least": spread.min().item(),
        "latent_std_most": spread.max().item(),
        "latent_sigma": (0.5 * logvar).exp().mean().item(),
        "latent_active": (divergence > 0.01).float().mean().item(),
    }

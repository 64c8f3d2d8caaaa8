"""What a codec is trained to make small (Kumar et al., arXiv 2306.06546; the quantiser's place taken by a Gaussian)."""

import torch
from einops import reduce
from torch import Tensor

from .spectra import log_mel, spectrum

# 10 ms; and amplitudes of full scale: below one a peak counts as silence, below the other's rise over a clip nothing hits.
PEAK_FRAME, PEAK_FLOOR, LEAST_RISE = 480, 0.01, 0.05
# Wider than any useful posterior, narrow enough that exp() neither overflows nor outweighs all else.
LOGVAR_RANGE = (-20.0, 10.0)

Features = list[list[Tensor]]


def spectral_losses(decoded: Tensor, target: Tensor, windows: tuple[int, ...], floor: float) -> tuple[Tensor, Tensor]:
    """Distances of two waveforms [B,1,N] in spectra of several resolutions.

    Returns:
        The mean absolute difference of the log10 mel spectra, summed over the windows, and the difference of the plain
        magnitudes relative to the target's (Frobenius norms over the batch), averaged over the windows. The first hears
        every level alike; the second keeps the loud parts at their true level.
    """
    mel, magnitude = [], []
    for window in windows:
        ours, theirs = spectrum(decoded, window).abs(), spectrum(target, window).abs()
        mel.append((log_mel(ours, floor) - log_mel(theirs, floor)).abs().mean())
        magnitude.append((ours - theirs).norm() / theirs.norm().clamp(min=1e-3))
    return torch.stack(mel).sum(), torch.stack(magnitude).mean()


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """0.5 * mean(mean^2 + variance - 1 - logvar): the posterior's distance from a standard normal, per latent value."""
    logvar = logvar.clamp(*LOGVAR_RANGE)
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def discriminator_loss(real: Features, fake: Features) -> Tensor:
    """Least-squares GAN (Mao et al., arXiv 1611.04076): real scores to 1, fake ones to 0, summed over discriminators.

    Args:
        real, fake: per discriminator its layers' outputs, the scores last; the fake ones detached from the codec.
    """
    return sum((1 - r[-1]).square().mean() + f[-1].square().mean() for r, f in zip(real, fake))


def adversarial_loss(fake: Features) -> Tensor:
    """Fake scores to 1, summed over discriminators."""
    return sum((1 - f[-1]).square().mean() for f in fake)


def feature_loss(real: Features, fake: Features) -> Tensor:
    """Mean absolute difference of every layer but the scores, summed over layers and discriminators."""
    pairs = [(r, f) for ours, theirs in zip(real, fake) for r, f in zip(ours[:-1], theirs[:-1])]
    return sum((r.detach() - f).abs().mean() for r, f in pairs)


def waveform_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of samples, each clip [1,N] relative to the target's own so that quiet ones count."""
    error = reduce((decoded - target).abs(), "B 1 N -> B", "mean")
    level = reduce(target.abs(), "B 1 N -> B", "mean")
    return (error / level.clamp(min=1e-3)).mean()


def peak_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the log10 peaks of two waveforms [B,1,N] in frames of 10 ms, weighted by how far the
    target's peak rises above that of the frame before.

    A hit's first click is a few samples long: spectra of whole windows hardly miss it where it comes out too soft.
    """
    ours, theirs = (_peaks(waveform) for waveform in (decoded, target))
    rise = (theirs[:, 1:] - theirs[:, :-1]).clamp(min=0)
    error = ((ours + PEAK_FLOOR).log10() - (theirs + PEAK_FLOOR).log10()).abs()[:, 1:]
    return (rise * error).sum() / rise.sum().clamp(min=LEAST_RISE * len(rise))


def _peaks(waveform: Tensor) -> Tensor:
    whole = waveform[..., : waveform.shape[-1] // PEAK_FRAME * PEAK_FRAME]
    return reduce(whole.abs(), "B 1 (L n) -> B L", "max", n=PEAK_FRAME)

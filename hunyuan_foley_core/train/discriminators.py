"""Judges of waveforms [B,1,N] for adversarial training, as in Descript's codec (Kumar et al., arXiv 2306.06546).

Each returns the outputs of its layers, the scores last.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, cat, nn, view_as_real
from torch.nn.utils.parametrizations import weight_norm

from .. import ops
from .spectra import spectrum

PERIODS = (2, 3, 5, 7, 11)
PERIOD_WIDTHS = (1, 4, 16, 32, 32)  # channels of the layers as multiples of the first's
WINDOWS = (2048, 1024, 512)
BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the bins up to half the sample rate
SLOPE = 0.1


def _conv(channels_in: int, channels: int, kernel, stride=1) -> nn.Module:
    padding = tuple(size // 2 for size in kernel)
    return weight_norm(ops.Conv2d(channels_in, channels, kernel_size=kernel, stride=stride, padding=padding))


def _walk(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    outputs = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        outputs.append(x)
    return outputs


class PeriodDiscriminator(nn.Module):
    """Sees samples `period` apart as one column (Kong et al., arXiv 2010.05646)."""

    def __init__(self, period: int, width: int):
        super().__init__()
        self.period = period
        widths = [1, *(multiple * width for multiple in PERIOD_WIDTHS)]
        strides = [(3, 1)] * (len(PERIOD_WIDTHS) - 1) + [(1, 1)]
        self.layers = nn.ModuleList(_conv(a, b, (5, 1), s) for a, b, s in zip(widths, widths[1:], strides))
        self.score = _conv(widths[-1], 1, (3, 1))

    def forward(self, waveform):
        missing = -waveform.shape[-1] % self.period
        columns = rearrange(F.pad(waveform, (0, missing)), "B 1 (rows period) -> B 1 rows period", period=self.period)
        outputs = _walk(self.layers, columns)
        return [*outputs, self.score(outputs[-1])]


class BandDiscriminator(nn.Module):
    """Sees the complex spectrum, each of five bands through layers of its own."""

    def __init__(self, window: int, width: int):
        super().__init__()
        self.window = window
        bins = window // 2 + 1
        edges = [round(edge * bins) for edge in BAND_EDGES]
        self.bands = list(zip(edges, edges[1:]))
        self.layers = nn.ModuleList(self._band(width) for _ in self.bands)
        self.score = _conv(width, 1, (3, 3))

    @staticmethod
    def _band(width: int) -> nn.ModuleList:
        strided = [_conv(width, width, (3, 9), (1, 2)) for _ in range(3)]
        return nn.ModuleList([_conv(2, width, (3, 9)), *strided, _conv(width, width, (3, 3))])

    def forward(self, waveform):
        picture = rearrange(view_as_real(spectrum(waveform, self.window)), "B F T two -> B two T F")
        outputs = [_walk(layers, picture[..., low:high]) for layers, (low, high) in zip(self.layers, self.bands)]
        joined = cat([band[-1] for band in outputs], dim=-1)
        return [*(layer for band in outputs for layer in band), self.score(joined)]


class Discriminators(nn.Module):
    """All periods and all windows; `width` is 32 at the published size."""

    def __init__(self, width: int):
        super().__init__()
        periods = [PeriodDiscriminator(period, width) for period in PERIODS]
        self.judges = nn.ModuleList(periods + [BandDiscriminator(window, width) for window in WINDOWS])

    def forward(self, waveform):
        return [judge(waveform) for judge in self.judges]

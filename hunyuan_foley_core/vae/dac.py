"""DAC-VAE: a continuous audio codec in the manner of Descript's (Kumar et al., arXiv 2306.06546).

Letters: B batch, C latent channels, L latent frames, N samples. A latent frame spans `config.hop` samples.
"""

from collections.abc import Callable
from math import prod

import torch
import torch.nn.functional as F

from .. import ops as core_ops
from ..config import DACVAEConfig
from ..errors import InputError
from .chunking import context_of, longest_window, plan_chunks, walk

DILATIONS = (1, 3, 9)
LOGVAR_RANGE = (-30.0, 20.0)

# 5 s of sound. At the released size in float32 a chunk then takes 0.35 GB to decode and 0.65 GB to encode, and computes
# a twelfth too much for its context; twice the length takes twice the memory to save half of that.
CHUNK_FRAMES = 250

# Largest activations alive at once: the input of the stage, input and output of a layer, what waits at a shortcut, and
# a copy in the layout the convolution prefers make the 5 that were measured; one more for backends less frugal.
# (On a CPU the resident size can come to twice the estimate's activations, because glibc's heap keeps what was freed.)
LIVE_ACTIVATIONS = 6

Callback = Callable[[int, int], None]


class Snake(torch.nn.Module):
    """x + sin^2(alpha x) / (alpha + 1e-9), one alpha per channel (Ziyin et al., arXiv 2006.08195)."""

    def __init__(self, channels: int, dtype=None, device=None):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.ones(1, channels, 1, dtype=dtype, device=device))

    def forward(self, x):
        alpha = core_ops.cast(self.alpha, x)
        # float16 has neither 1e-9 nor its inverse, and 0 * inf would be NaN where alpha is 0.
        wide = alpha.to(torch.promote_types(x.dtype, torch.float32))
        inverse = (wide + 1e-9).reciprocal().clamp(max=torch.finfo(x.dtype).max).to(x.dtype)
        # Bound by memory, so everything happens in the one new tensor. Autograd keeps copies where it needs them.
        return (alpha * x).sin_().square_().mul_(inverse).add_(x)


class ResidualUnit(torch.nn.Module):
    """x + conv1(snake(conv7(snake(x)))), the wide convolution dilated; same length out as in."""

    def __init__(self, channels: int, dilation: int, ops, **factory):
        super().__init__()
        self.block = torch.nn.Sequential(
            Snake(channels, **factory),
            ops.Conv1d(channels, channels, kernel_size=7, dilation=dilation, padding=3 * dilation, **factory),
            Snake(channels, **factory),
            ops.Conv1d(channels, channels, kernel_size=1, **factory),
        )

    def forward(self, x):
        return self.block(x).add_(x)


class EncoderStage(torch.nn.Module):
    """Residual units, then a strided convolution to twice the channels at 1/rate of the length."""

    def __init__(self, channels: int, rate: int, ops, **factory):
        super().__init__()
        self.block = torch.nn.Sequential(
            *(ResidualUnit(channels, dilation, ops, **factory) for dilation in DILATIONS),
            Snake(channels, **factory),
            ops.Conv1d(
                channels, 2 * channels, kernel_size=2 * rate, stride=rate, padding=(rate + 1) // 2, **factory
            ),
        )

    def forward(self, x):
        return self.block(x)


class DecoderStage(torch.nn.Module):
    """A transposed convolution to half the channels at rate times the length, then residual units."""

    def __init__(self, channels: int, rate: int, ops, **factory):
        super().__init__()
        self.block = torch.nn.Sequential(
            Snake(channels, **factory),
            ops.ConvTranspose1d(
                channels, channels // 2, kernel_size=2 * rate, stride=rate,
                padding=(rate + 1) // 2, output_padding=rate % 2, **factory,
            ),
            *(ResidualUnit(channels // 2, dilation, ops, **factory) for dilation in DILATIONS),
        )

    def forward(self, x):
        return self.block(x)


class Encoder(torch.nn.Module):
    """[B,1,L*hop] -> [B,C,L]."""

    def __init__(self, config: DACVAEConfig, ops, **factory):
        super().__init__()
        widths = [config.encoder_dim << stage for stage in range(len(config.encoder_rates) + 1)]
        self.block = torch.nn.Sequential(
            ops.Conv1d(1, widths[0], kernel_size=7, padding=3, **factory),
            *(EncoderStage(width, rate, ops, **factory) for width, rate in zip(widths, config.encoder_rates)),
            Snake(widths[-1], **factory),
            ops.Conv1d(widths[-1], config.latent_channels, kernel_size=3, padding=1, **factory),
        )

    def forward(self, waveform):
        return self.block(waveform)


class Decoder(torch.nn.Module):
    """[B,C,L] -> [B,1,L*hop] in -1..1."""

    def __init__(self, config: DACVAEConfig, ops, **factory):
        super().__init__()
        widths = [config.decoder_dim >> stage for stage in range(len(config.decoder_rates) + 1)]
        self.model = torch.nn.Sequential(
            ops.Conv1d(config.latent_channels, widths[0], kernel_size=7, padding=3, **factory),
            *(DecoderStage(width, rate, ops, **factory) for width, rate in zip(widths, config.decoder_rates)),
            Snake(widths[-1], **factory),
            ops.Conv1d(widths[-1], 1, kernel_size=7, padding=3, **factory),
            torch.nn.Tanh(),
        )

    def forward(self, latents):
        return self.model(latents)


class DACVAE(torch.nn.Module):
    """Waveforms to latents and back, with weight norm already folded (`fold_weight_norm`).

    `encode` and `decode` are for inference: no gradients, chunked over time and over the batch. `posterior` and
    `synthesise` are the same functions in one differentiable piece.

    Attributes:
        encode_context: latent frames the encoder sees to the left and right of a frame.
        decode_context: the same for the decoder.
    """

    def __init__(self, config: DACVAEConfig, ops=core_ops, dtype=None, device=None):
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        channels = config.latent_channels
        self.config = config
        self.encoder = Encoder(config, ops, **factory)
        self.quant_conv = ops.Conv1d(channels, 2 * channels, kernel_size=1, **factory)
        self.post_quant_conv = ops.Conv1d(channels, channels, kernel_size=1, **factory)
        self.decoder = Decoder(config, ops, **factory)
        self.encode_context = context_of(self.encoder, frame_in=config.hop, frame_out=1)
        self.decode_context = context_of(self.decoder, frame_in=1, frame_out=config.hop)

    def posterior(self, waveform):
        """[B,1,L*hop] -> mean, logvar [B,C,L]."""
        mean, logvar = self.quant_conv(self.encoder(waveform)).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def synthesise(self, latents):
        """[B,C,L] -> waveform [B,1,L*hop] in -1..1."""
        return self.decoder(self.post_quant_conv(latents))

    @torch.no_grad()
    def encode(
        self,
        waveform: torch.Tensor,
        *,
        chunk_frames: int | None = CHUNK_FRAMES,
        callback: Callback | None = None,
        output_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logvar [B,C,L] of the latents of a 48 kHz mono waveform; inference uses the mean.

        Args:
            waveform: [B,1,N], floating, any device; zeros are added up to a whole latent frame, L = ceil(N / hop).
            chunk_frames: most latent frames computed at once, context not counted; None: all in one piece.
            callback: called with (done, total) after each chunk; may raise to cancel.
            output_device: where the result gathers, chunk by chunk; None: that of `waveform`.
            device, dtype: where and in what type to compute; None: those of the first parameter, or float32 if that
                is an 8-bit storage type. The result is float32 or wider.

        Raises:
            InputError: wrong shape or type, empty, or not finite.
        """
        _check_waveform(waveform)
        device, dtype = self._compute_in(device, dtype)
        hop, frames = self.config.hop, -(-waveform.shape[-1] // self.config.hop)
        whole = _empty_result(waveform, 2 * self.config.latent_channels, frames, output_device, dtype)
        chunks = plan_chunks(frames, chunk_frames, self.encode_context)
        for sample, chunk in walk(waveform.shape[0], chunks, callback):
            window = waveform[sample : sample + 1, :, chunk.read_start * hop : chunk.read_stop * hop]
            missing = chunk.read_frames * hop - window.shape[-1]
            piece = torch.cat(self.posterior(F.pad(window.to(device, dtype), (0, missing))), dim=1)
            whole[sample, :, chunk.start : chunk.stop] = piece[0, :, chunk.own()]
        mean, logvar = whole.chunk(2, dim=1)
        return mean.contiguous(), logvar.contiguous()

    @torch.no_grad()
    def decode(
        self,
        latents: torch.Tensor,
        *,
        chunk_frames: int | None = CHUNK_FRAMES,
        callback: Callback | None = None,
        output_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """The 48 kHz mono waveform [B,1,L*hop] in -1..1 of latents [B,C,L]; arguments as in `encode`.

        Raises:
            InputError: wrong shape, type or channel count, empty, or not finite.
        """
        _check_latents(latents, self.config.latent_channels)
        device, dtype = self._compute_in(device, dtype)
        hop, frames = self.config.hop, latents.shape[-1]
        waveform = _empty_result(latents, 1, frames * hop, output_device, dtype)
        chunks = plan_chunks(frames, chunk_frames, self.decode_context)
        for sample, chunk in walk(latents.shape[0], chunks, callback):
            window = latents[sample : sample + 1, :, chunk.read_start : chunk.read_stop].to(device, dtype)
            piece = self.synthesise(window)
            waveform[sample, :, chunk.start * hop : chunk.stop * hop] = piece[0, :, chunk.own(hop)]
        return waveform

    def encode_memory(self, samples: int, itemsize: int, *, chunk_frames: int | None = CHUNK_FRAMES) -> int:
        """Bytes that `encode` needs beside the weights for `samples` samples, computing in `itemsize` bytes a value."""
        frames = -(-samples // self.config.hop)
        widest = _widest_frame(self.config.encoder_dim, self.config.encoder_rates)
        return itemsize * (
            LIVE_ACTIVATIONS * widest * longest_window(frames, chunk_frames, self.encode_context)
            + _largest_weight(self.encoder)
        )

    def decode_memory(self, frames: int, itemsize: int, *, chunk_frames: int | None = CHUNK_FRAMES) -> int:
        """Bytes that `decode` needs beside the weights for `frames` frames, computing in `itemsize` bytes a value."""
        rates = self.config.decoder_rates
        widest = _widest_frame(self.config.decoder_dim >> len(rates), rates[::-1])
        return itemsize * (
            LIVE_ACTIVATIONS * widest * longest_window(frames, chunk_frames, self.decode_context)
            + _largest_weight(self.decoder)
        )

    def _compute_in(self, device, dtype) -> tuple[torch.device, torch.dtype]:
        stored = next(self.parameters())
        computable = stored.dtype if stored.dtype.itemsize > 1 else torch.float32
        return torch.device(device or stored.device), dtype or computable


def _widest_frame(width: int, rates: tuple[int, ...]) -> int:
    """Most values one latent frame has in any layer, from `width` channels at the sample rate down by `rates`."""
    positions = prod(rates)
    values = [width * positions]
    for rate in rates:
        width, positions = 2 * width, positions // rate
        values.append(width * positions)
    return max(values)


def _largest_weight(network: torch.nn.Module) -> int:
    """Values in the largest weight: a cast or a change of layout copies one weight at a time."""
    return max(parameter.numel() for parameter in network.parameters())


def _empty_result(like: torch.Tensor, channels: int, length: int, device, compute_dtype: torch.dtype) -> torch.Tensor:
    dtype = torch.promote_types(compute_dtype, torch.float32)
    return torch.empty(like.shape[0], channels, length, dtype=dtype, device=device or like.device)


def _check_waveform(waveform: torch.Tensor) -> None:
    if waveform.ndim != 3 or waveform.shape[1] != 1 or 0 in waveform.shape or not waveform.is_floating_point():
        raise InputError(
            f"The sound to encode is a tensor of shape {tuple(waveform.shape)} and type {waveform.dtype}.",
            "Expected floating-point samples at 48 kHz, mono, of shape [batch, 1, samples] with at least one sample.",
            "Mix stereo down to one channel, resample to 48 kHz, and check that the clip is not empty.",
        )
    _check_finite(waveform, "The sound to encode", "The file is damaged or was processed wrongly; use another one.")


def _check_latents(latents: torch.Tensor, channels: int) -> None:
    if latents.ndim != 3 or latents.shape[1] != channels or 0 in latents.shape or not latents.is_floating_point():
        raise InputError(
            f"The latents to decode are a tensor of shape {tuple(latents.shape)} and type {latents.dtype}.",
            f"Expected floating-point latents of shape [batch, {channels}, frames] with at least one frame.",
            "Connect latents that the Foley sampler or this VAE's encoder made; those of image models do not fit.",
        )
    _check_finite(
        latents,
        "The latents to decode",
        "The sampler produced them: lower the guidance scale, run the model in bfloat16 or float32 instead of float16 "
        "or float8, or leave out LoRAs and model patches to find the one that breaks.",
    )


def _check_finite(tensor: torch.Tensor, what: str, remedy: str) -> None:
    nans, infinities = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    if nans or infinities:
        raise InputError(
            f"{what} hold {nans} NaN and {infinities} infinite values among {tensor.numel()}.",
            "Expected finite numbers.",
            remedy,
        )

"""Time in one place: seconds, ticks of 8 and 25 fps, segments, latent frames, samples.

Nothing else in the project holds these rates. Source: MODEL facts of HunyuanVideo-Foley (arXiv 2508.16930).
"""

from dataclasses import dataclass

SAMPLE_RATE = 48_000  # samples per second of the DAC-VAE
LATENT_HOP = 960  # samples per latent frame
LATENT_RATE = SAMPLE_RATE // LATENT_HOP  # 50 latent frames per second
VISUAL_RATE = 8  # frames per second seen by SigLIP2
SYNC_RATE = 25  # frames per second seen by Synchformer
SEGMENT_FRAMES = 16  # frames in one Synchformer segment
SEGMENT_HOP = 8  # frames between the starts of two segments
SEGMENT_TOKENS = 8  # sync tokens that one segment gives
MAX_SECONDS = 15.0  # the released model reads no frame after this
TEXT_TOKENS = 77  # text features past this position are cut

# Durations come as floats from widgets and frame rates; 4.1 s * 50 is 204.99999999999997.
_ROUNDING = 1e-6


def _whole(count: float) -> int:
    return int(count + _ROUNDING)


def sync_segments(frames: int) -> int:
    """Number of Synchformer segments in `frames` frames at 25 fps; short clips are held up to one segment."""
    return (max(frames, SEGMENT_FRAMES) - SEGMENT_FRAMES) // SEGMENT_HOP + 1


@dataclass(frozen=True)
class ClipTiming:
    """Every count that follows from the length of a clip.

    Attributes:
        latent_frames: L, frames of the audio latent (50 per second).
        visual_tokens: V, SigLIP2 tokens (8 per second, one per frame).
        sync_tokens: S, Synchformer tokens (8 per segment of 16 frames, hop 8).
    """

    latent_frames: int
    visual_tokens: int
    sync_tokens: int

    @classmethod
    def from_seconds(cls, seconds: float) -> "ClipTiming":
        """Counts for a clip without video, `seconds` long."""
        sync_frames = _whole(seconds * SYNC_RATE)
        return cls(
            latent_frames=_whole(seconds * LATENT_RATE),
            visual_tokens=max(1, _whole(seconds * VISUAL_RATE)),
            sync_tokens=sync_segments(sync_frames) * SEGMENT_TOKENS,
        )

    @classmethod
    def from_latent_frames(cls, latent_frames: int) -> "ClipTiming":
        """Counts that a latent of `latent_frames` implies, in whole numbers without going through floats."""
        return cls(
            latent_frames=latent_frames,
            visual_tokens=max(1, latent_frames * VISUAL_RATE // LATENT_RATE),
            sync_tokens=sync_segments(latent_frames * SYNC_RATE // LATENT_RATE) * SEGMENT_TOKENS,
        )

    @property
    def samples(self) -> int:
        """Samples at 48 kHz that the latent decodes to."""
        return self.latent_frames * LATENT_HOP


def seconds_of_sync_frames(frames: int) -> float:
    """Duration of a clip in seconds, from its number of frames at 25 fps (before any holding)."""
    return frames / SYNC_RATE


def latent_frames(seconds: float) -> int:
    """Latent frames of `seconds` of sound."""
    return _whole(seconds * LATENT_RATE)


def samples(seconds: float, sample_rate: int = SAMPLE_RATE) -> int:
    """Samples of `seconds` of sound, to the nearest sample."""
    return round(seconds * sample_rate)

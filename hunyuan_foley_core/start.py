"""Where sampling starts: at noise, at given latents with some noise, or with a part of given latents held.

Held parts follow their own straight line from noise to data, so that at every noise level the model sees beside the new
part what it would see had it made the old part too (the way of RePaint, arXiv 2201.09865, for a rectified flow).
Letters: B batch, C latent channels, L latent frames.
"""

from dataclasses import dataclass

from torch import Tensor

from .errors import InputError


@dataclass(frozen=True)
class Start:
    """Latents to start from, and how much of them to keep.

    Attributes:
        latents: [1 or B, C, L]; None: start from noise alone.
        strength: share of the way from noise to sound that is gone anew, 0 (nothing changes) to 1 (all of it).
        mask: [1 or B, 1, L], 1 where sound is made anew, 0 where the latents are kept, between the two for soft edges;
            None: 1 everywhere.
    """

    latents: Tensor | None = None
    strength: float = 1.0
    mask: Tensor | None = None

    def on(self, noise: Tensor) -> "Start":
        """The same in float32 on the device of `noise` [B, C, L].

        Raises:
            InputError: latents or mask do not have the shape of the noise, or the strength is out of range.
        """
        if not 0 <= self.strength <= 1:
            raise InputError(f"The strength is {self.strength}.", "Expected 0 (keep the sound) to 1 (make a new one).")
        batch, channels, frames = noise.shape
        for name, tensor, rows in (("latents to start from", self.latents, channels), ("mask", self.mask, 1)):
            if tensor is not None and (tensor.shape[0] not in (1, batch) or tensor.shape[1:] != (rows, frames)):
                raise InputError(
                    f"The {name} have the shape {list(tensor.shape)}.", f"Expected [1 or {batch}, {rows}, {frames}].",
                    "Make both for the same length of sound.",
                )
        if self.latents is None and (self.mask is not None or self.strength < 1):
            raise InputError("There are no latents to start from.", "A mask and a strength below 1 need them.")
        latents, mask = (None if t is None else t.to(noise.device).float() for t in (self.latents, self.mask))
        return Start(latents, self.strength, mask)

    def at(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """The latents at the noise level `sigma`, 1 noise to 0 sound."""
        return noise if self.latents is None else sigma * noise + (1 - sigma) * self.latents

    def seen(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the model is shown of a step's `latents`: outside of the mask the old ones at this noise level."""
        return latents if self.mask is None else self.mask * latents + (1 - self.mask) * self.at(noise, sigma)

    def towards(self, latents: Tensor, seen: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
        """The velocity that leads from a step's `latents` to what was predicted from `seen`, and outside of the mask to
        the old latents."""
        if self.mask is None:
            return velocity
        predicted = self.mask * (seen - sigma * velocity) + (1 - self.mask) * self.latents
        return (latents - predicted) / sigma


FROM_NOISE = Start()

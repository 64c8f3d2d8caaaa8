"""Takes: several sounds from one run of the sampler, and one of them alone."""

from collections import deque

from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..hunyuan_foley_core.errors import InputError, MissingConnectionError
from .messages import tell
from .sockets import CATEGORY

MAX_INDEX = 4095
SEED_NAMES = ("seed", "noise_seed")


class FoleyPickTake(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyPickTake",
            display_name="Foley Pick Take",
            category=CATEGORY,
            description="One take of a batch of sounds or latents, and what makes it again alone: put this node "
            "between Empty Foley Latent and the sampler, with the same index, batch size and seed.",
            inputs=[
                io.Int.Input(
                    "index", default=0, min=0, max=MAX_INDEX,
                    tooltip="Which take, 0 for the first to one less than the batch holds.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="A batch of sounds, as DAC Decode gives for latents."),
                io.Latent.Input("latent", optional=True, tooltip="A batch of latents, before or after the sampler."),
            ],
            outputs=[
                io.Audio.Output(tooltip="That take of the sounds, if sounds are connected."),
                io.Latent.Output(tooltip="That take of the latents, with its place in the batch, if latents are connected."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, index: int, audio: dict | None = None, latent: dict | None = None) -> io.NodeOutput:
        if audio is None and latent is None:
            raise MissingConnectionError("Neither AUDIO nor LATENT is connected.", "Expected a batch of takes.", "Connect one.")
        picked_audio = _missing("AUDIO") if audio is None else {**audio, "waveform": _take(audio["waveform"], index)}
        picked_latent = _missing("LATENT") if latent is None else pick_latent(latent, index)
        unique_id = cls.hidden.unique_id
        message = describe(index, nearest_seed(cls.hidden.prompt or {}, unique_id))
        return io.NodeOutput(picked_audio, picked_latent, ui=tell(unique_id, [message]))


def _missing(kind: str) -> ExecutionBlocker:
    return ExecutionBlocker(f"Foley Pick Take has no {kind} to pick from: connect one to it.")


def _take(batch, index: int):
    if not 0 <= index < len(batch):
        raise InputError(
            f"Take {index} was asked for of a batch of {len(batch)}.", f"Expected an index from 0 to {len(batch) - 1}.",
            "Lower the index, or make a larger batch.",
        )
    return batch[index : index + 1]


def pick_latent(latent: dict, index: int) -> dict:
    """A LATENT of one take, which a sampler gives the noise that it had in the batch."""
    samples = _take(latent["samples"], index)
    places = latent.get("batch_index") or list(range(len(latent["samples"])))
    picked = {**latent, "samples": samples, "batch_index": [places[index]]}
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) > 1:
        picked["noise_mask"] = _take(mask, index)
    return picked


def nearest_seed(prompt: dict, node_id: str) -> int | None:
    """The seed of the nearest node before `node_id` in a prompt of ComfyUI that has one; None: there is none."""
    waiting, known = deque([node_id]), {node_id}
    while waiting:
        inputs = prompt.get(waiting.popleft(), {}).get("inputs", {})
        seeds = [inputs[name] for name in SEED_NAMES if isinstance(inputs.get(name), int)]
        if seeds:
            return seeds[0]
        links = [value[0] for value in inputs.values() if isinstance(value, list) and len(value) == 2]
        waiting.extend(link for link in links if link not in known)
        known.update(links)
    return None


def describe(index: int, seed: int | None) -> str:
    made = "the sampler's seed" if seed is None else f"seed {seed}"
    return f"Take {index} of {made}. To make it alone, pick it from the empty latent, before a sampler of that seed."

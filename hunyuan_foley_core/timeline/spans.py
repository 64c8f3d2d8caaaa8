"""What holds when, as spans: scenes, the windows that long sound is made in, and prompts by time."""

from collections.abc import Sequence

from ..timed_prompts import TimedPrompt, complete, prompt_weights
from ..timing import LATENT_RATE, latent_frames
from ..windows import WindowSettings, plan_windows
from .lanes import Span


def spans_of(
    seconds: float | None,
    *,
    cuts: Sequence[int] = (),
    prompts: Sequence[TimedPrompt] = (),
    windows: tuple[float | None, float | None] | None = None,
) -> dict[str, list[Span]]:
    """The arguments `scenes`, `windows` and `prompts` of `draw_timeline`; nothing where the length is not known.

    Args:
        cuts: latent frames at which scenes begin, ascending, without 0; those past the end are left out.
        windows: length and overlap in seconds, None: as with the released weights; shown where there are more of them
            than scenes.

    Raises:
        InputError: a prompt that begins behind the end, or for a scene that is not there.
    """
    frames = latent_frames(seconds) if seconds else 0
    if not frames:
        return {}
    cuts = [cut for cut in cuts if 0 < cut < frames]
    prompt_weights(complete(prompts, ""), frames, cuts)  # which refuses what the sampler would
    edges = [0, *cuts, frames]
    scenes = [Span(a / LATENT_RATE, b / LATENT_RATE, f"scene {n}") for n, (a, b) in enumerate(zip(edges, edges[1:]), 1)]
    plan = plan_windows(frames, WindowSettings().changed(*windows or (None, None)), cuts)
    parts = [Span(w.start / LATENT_RATE, w.stop / LATENT_RATE, f"window {n}") for n, w in enumerate(plan, 1)]
    return {
        "scenes": scenes if cuts else [],
        "windows": parts if len(parts) > len(scenes) else [],
        "prompts": [_span(prompt, scenes, seconds) for prompt in prompts],
    }


def _span(prompt: TimedPrompt, scenes: list[Span], seconds: float) -> Span:
    if prompt.is_rest:
        return Span(0.0, seconds, f"* {prompt.text}")
    if prompt.scene is None:
        return Span(prompt.start, min(prompt.end, seconds), prompt.text)
    scene = scenes[prompt.scene - 1]
    return Span(scene.start, scene.end, prompt.text)

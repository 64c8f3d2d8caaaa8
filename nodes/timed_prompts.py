"""Prompts by time."""

from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.conditions import BANDWIDTH_TAG, DEFAULT_NEGATIVE_PROMPT, encode_texts
from ..hunyuan_foley_core.timed_prompts import complete, elsewhere, parse, prompt_weights
from ..hunyuan_foley_core.timing import latent_frames
from .conditioning import TAG_VARIANTS, timed_conditioning
from .sockets import CATEGORY, FoleyEncodersIO, FoleyVideoIO

EXAMPLE = "0:00-0:03 footsteps on gravel\n0:03.2 door slams\n* light rain"


class FoleyTimedPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyTimedPrompts",
            display_name="Foley Timed Prompts",
            category=CATEGORY,
            description="Reads prompts that each hold for a part of the clip, in place of Encode Text. One a line: "
            "`0:00-0:03 footsteps on gravel` for a span, `0:03.2 door slams` for a second from there, `#2 a crowd` for the "
            "second scene, `* light rain` for everywhere else. Spans may overlap: they then share the time evenly.",
            inputs=[
                FoleyEncodersIO.Input("encoders", tooltip="From Load Foley Encoders."),
                io.String.Input(
                    "prompts", multiline=True, default=EXAMPLE,
                    tooltip="Times as m:ss, m:ss.s or h:mm:ss. Without a line that begins with *, the picture decides what "
                    "is heard everywhere else; without a picture nothing is.",
                ),
                io.String.Input(
                    "negative_prompt", multiline=True, default=DEFAULT_NEGATIVE_PROMPT,
                    tooltip="What the sound should not be like, at any time. Used where cfg is above 1.",
                ),
                io.Combo.Input(
                    "bandwidth_tag", options=list(TAG_VARIANTS), default=BANDWIDTH_TAG,
                    tooltip="high-quality adds the tag that recordings with sound above 16 kHz carried in training; none "
                    "does not. Foley Sampler can still switch, without encoding again.",
                ),
                io.Float.Input(
                    "seconds", default=8.0, min=0.1, max=3600.0, step=0.1,
                    tooltip="Length of the sound in seconds, 0.1 to 3600, the same as in Empty Foley Latent. Not used when a "
                    "video is connected.",
                ),
                FoleyVideoIO.Input("video", optional=True, tooltip="From Encode Video; leave open for text to audio."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="Each prompt with its times, and the picture if there is one."
                ),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt, without picture."),
            ],
        )

    @classmethod
    def execute(
        cls, encoders, prompts: str, negative_prompt: str, bandwidth_tag: str, seconds: float, video=None
    ) -> io.NodeOutput:
        timed = complete(parse(prompts), elsewhere(video is not None))
        length, cuts = (seconds, ()) if video is None else (video.features.seconds, video.features.cuts)
        weights = prompt_weights(timed, latent_frames(length), cuts)
        alive = [number for number, weight in enumerate(weights) if (weight > 0).any()]
        clap, device = encoders.load_for_text()
        texts = [timed[number].text for number in alive]
        encoded = {
            variant: encode_texts(clap, texts, negative_prompt, tag=variant == BANDWIDTH_TAG, device=device)
            for variant in TAG_VARIANTS
        }
        positive = [
            {variant: features[place] for variant, (features, _) in encoded.items()} for place in range(len(alive))
        ]
        negative = {variant: features for variant, (_, features) in encoded.items()}
        return io.NodeOutput(*timed_conditioning(
            positive, weights[alive], negative, bandwidth_tag, video, encoders.sources
        ))

"""Picture and text to features."""

import comfy.utils
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core import media
from ..hunyuan_foley_core.conditions import BANDWIDTH_TAG, DEFAULT_NEGATIVE_PROMPT, encode_scenes, encode_text_pair
from ..hunyuan_foley_core.scenes import kept_cuts
from ..hunyuan_foley_core.timing import SYNC_RATE
from .conditioning import TAG_VARIANTS, FoleyVideo, conditioning_pair
from .messages import tell
from .sockets import CATEGORY, FoleyEncodersIO, FoleyScenesIO, FoleyVideoIO
from .video_source import frame_source


class FoleyEncodeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyEncodeVideo",
            display_name="Encode Video (SigLIP2 + Synchformer)",
            category=CATEGORY,
            description="Watches a video for what is seen (SigLIP2, 8 pictures a second) and when it moves "
            "(Synchformer, 25). Connect either a VIDEO or an IMAGE batch. A clip under 0.64 s (16 pictures at 25 a "
            "second) is watched as if its last picture were held; the sound gets its true length.",
            inputs=[
                FoleyEncodersIO.Input("encoders", tooltip="From Load Foley Encoders."),
                io.Float.Input(
                    "frame_rate", default=24.0, min=0.0, max=240.0, step=0.01, round=0.001,
                    tooltip="Pictures per second of the IMAGE batch, above 0 to 240. A VIDEO knows its own.",
                ),
                io.Float.Input(
                    "max_seconds", default=600.0, min=0.1, max=3600.0, step=0.1,
                    tooltip="Seconds to watch from the start of the clip, 0.1 to 3600. Foley Sampler makes more than 10 "
                    "seconds of sound in windows.",
                ),
                io.Video.Input("video", optional=True, tooltip="Read as a stream; a trim is honoured."),
                io.Image.Input("images", optional=True, tooltip="Pictures of a video, as a generator gives them."),
                FoleyScenesIO.Input(
                    "scenes", optional=True,
                    tooltip="From Foley Scenes: each scene is watched, and its sound made, as a clip of its own.",
                ),
            ],
            outputs=[
                FoleyVideoIO.Output(display_name="video", tooltip="What the model sees of the video, and how long it is."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, encoders, frame_rate: float, max_seconds: float, video=None, images=None, scenes=None) -> io.NodeOutput:
        report = media.DecodeReport()
        source = frame_source(video, images, frame_rate, max_seconds, report)
        cuts = kept_cuts(scenes.cuts if scenes is not None else (), source.length, source.most)
        siglip2, synchformer, device = encoders.load_for_video()
        ticks = max(1, round(source.seconds * SYNC_RATE))
        bar = comfy.utils.ProgressBar(ticks)
        features = encode_scenes(
            source.between, cuts, siglip2, synchformer, device=device,
            callback=lambda seconds: bar.update_absolute(min(round(seconds * SYNC_RATE), ticks)),
        )
        length = None if source.length is None else source.seconds
        return io.NodeOutput(FoleyVideo(features, encoders.sources, length), ui=tell(cls.hidden.unique_id, report.warnings))


class FoleyEncodeText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyEncodeText",
            display_name="Encode Text (CLAP)",
            category=CATEGORY,
            description="Reads prompt and negative prompt together, and adds the picture if there is one. Without a "
            "video the model makes sound from the text alone.",
            inputs=[
                FoleyEncodersIO.Input("encoders", tooltip="From Load Foley Encoders."),
                io.String.Input(
                    "prompt", multiline=True, default="",
                    tooltip="The sound to make, in English: up to 510 tokens, of which the model hears the first 76.",
                ),
                io.String.Input(
                    "negative_prompt", multiline=True, default=DEFAULT_NEGATIVE_PROMPT,
                    tooltip="What the sound should not be like; up to 510 tokens. Used where cfg is above 1.",
                ),
                io.Combo.Input(
                    "bandwidth_tag", options=list(TAG_VARIANTS), default=BANDWIDTH_TAG,
                    tooltip="high-quality adds the tag that recordings with sound above 16 kHz carried in training; "
                    "none does not. The sampler can still switch, without encoding again.",
                ),
                FoleyVideoIO.Input("video", optional=True, tooltip="From Encode Video; leave open for text to audio."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The prompt, and the picture if there is one."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt, without picture."),
            ],
        )

    @classmethod
    def execute(cls, encoders, prompt: str, negative_prompt: str, bandwidth_tag: str, video=None) -> io.NodeOutput:
        return io.NodeOutput(*encode_prompts(encoders, prompt, negative_prompt, bandwidth_tag, video))


def encode_prompts(
    encoders, prompt: str, negative_prompt: str, bandwidth_tag: str = BANDWIDTH_TAG, video: FoleyVideo | None = None
) -> tuple[list, list]:
    """Positive and negative CONDITIONING of a prompt and its negative, with the picture if there is one."""
    clap, device = encoders.load_for_text()
    pairs = {
        variant: encode_text_pair(clap, prompt, negative_prompt, tag=variant == BANDWIDTH_TAG, device=device)
        for variant in TAG_VARIANTS
    }
    texts, negative_texts = ({variant: pair[i] for variant, pair in pairs.items()} for i in (0, 1))
    return conditioning_pair(texts, negative_texts, bandwidth_tag, video, encoders.sources)

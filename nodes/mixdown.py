"""The finished sound track of a video: mixed, ducked, as loud as asked."""

import comfy.utils
from comfy_api.v0_0_2 import InputImpl, io

from ..hunyuan_foley_core import media
from .audio import require_audio
from .messages import tell
from .mux import MAX_GAIN_DB, MAX_OFFSET, audio_of, mixdown_for_components, temporary_path, whole_file, with_track
from .sockets import CATEGORY
from .video_source import components_of

MODES = {"mix": "none", "duck original": "original", "duck foley": "foley", "replace": "none"}
OWN_CODEC = "automatic"
RATES = ["48000", "44100", "96000"]
DUCKING = media.Ducking()


class FoleyMixdown(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        gain = dict(min=-MAX_GAIN_DB, max=MAX_GAIN_DB, step=0.5)
        return io.Schema(
            node_id="FoleyMixdown",
            display_name="Foley Mixdown",
            category=CATEGORY,
            description="Finishes the sound of a video: mixes the foley with the video's own sound, lets one of them go down "
            "while the other is heard, and brings the result to a loudness under a ceiling. The picture is copied untouched.",
            inputs=[
                io.Video.Input("video", tooltip="The picture, and the original sound."),
                io.Audio.Input("audio", tooltip="The foley; of a batch the first. Any rate and channels."),
                io.Combo.Input(
                    "mode", options=list(MODES), default="mix",
                    tooltip="mix: foley and the video's own sound together. duck original: the video's sound goes down while "
                    "the foley is heard. duck foley: the other way round, for speech. replace: only the foley.",
                ),
                io.Float.Input("gain_db", default=0.0, **gain, tooltip="Gain of the foley in dB, -60 to 60."),
                io.Float.Input(
                    "original_gain_db", default=0.0, **gain, tooltip="Gain of the video's own sound in dB, -60 to 60."
                ),
                io.Float.Input(
                    "offset", default=0.0, min=-MAX_OFFSET, max=MAX_OFFSET, step=0.001, round=0.00001,
                    tooltip="Seconds the foley starts after the picture, -600 to 600, exact to the sample.",
                ),
                io.Float.Input(
                    "duck_depth_db", default=DUCKING.depth_db, min=0.0, max=30.0, step=0.5,
                    tooltip="How much quieter the ducked sound gets, 0 to 30 dB.",
                ),
                io.Float.Input(
                    "duck_attack_ms", default=DUCKING.attack_ms, min=1.0, max=1000.0, step=1.0,
                    tooltip="How long it takes to go down, 1 to 1000 ms; it begins so much ahead that it is down in time.",
                ),
                io.Float.Input(
                    "duck_release_ms", default=DUCKING.release_ms, min=1.0, max=5000.0, step=10.0,
                    tooltip="How long it takes to come back when the other sound is over, 1 to 5000 ms.",
                ),
                io.Float.Input(
                    "duck_threshold_db", default=DUCKING.threshold_db, min=-60.0, max=0.0, step=1.0,
                    tooltip="Peak level above which the other sound counts as heard, -60 to 0 dBFS.",
                ),
                io.Boolean.Input(
                    "set_loudness", default=True, tooltip="Bring the result to the loudness below; off leaves its level alone."
                ),
                io.Float.Input(
                    "loudness_lufs", default=-16.0, min=-60.0, max=-5.0, step=0.5,
                    tooltip="Integrated loudness after ITU-R BS.1770, -60 to -5 LUFS; broadcast wants -23, the web -16 to -14.",
                ),
                io.Float.Input(
                    "true_peak_dbtp", default=-1.0, min=-20.0, max=0.0, step=0.1,
                    tooltip="Ceiling of true peaks when setting loudness, -20 to 0 dBTP; a limiter keeps it.",
                ),
                io.Float.Input(
                    "stereo_width", default=1.0, min=0.0, max=2.0, step=0.05,
                    tooltip="Width of the foley, 0 to 2: 0 mono, 1 as it is, 2 twice as wide. Above 1 mono foley gets sides.",
                ),
                io.Combo.Input(
                    "channels", options=list(media.CHANNELS), default="as mixed",
                    tooltip="as mixed: stereo if one of the two sounds is. mono, stereo: the result is.",
                ),
                io.Combo.Input("sample_rate", options=RATES, default=RATES[0], tooltip="Samples per second of the result."),
                io.Combo.Input(
                    "codec", options=[OWN_CODEC, *media.CODECS], default=OWN_CODEC,
                    tooltip="How the sound is coded in a file. automatic: AAC in MP4, Opus in WebM. flac and pcm keep every "
                    "bit; where the file cannot hold one, it becomes a Matroska file.",
                ),
            ],
            outputs=[
                io.Video.Output(tooltip="The video with the finished sound, for Save Video."),
                io.Audio.Output(tooltip="The finished sound alone, as long as the picture."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, video, audio: dict | None, sample_rate: str, codec: str, **widgets) -> io.NodeOutput:
        sound, wanted = require_audio(audio), dict(rate=int(sample_rate), mix=mix_of(**widgets))
        waveform, rate = sound["waveform"][0], sound["sample_rate"]
        components = components_of(video)
        if components is not None:
            track, warnings = mixdown_for_components(components, waveform, rate, **wanted), []
            made = with_track(components, track)
        else:
            track, made, warnings = _for_file(video, waveform, rate, None if codec == OWN_CODEC else codec, **wanted)
        return io.NodeOutput(made, audio_of(track), ui=tell(cls.hidden.unique_id, [*track.warnings, *warnings]))


def mix_of(
    mode: str, duck_depth_db: float, duck_attack_ms: float, duck_release_ms: float, duck_threshold_db: float,
    set_loudness: bool, loudness_lufs: float, true_peak_dbtp: float, stereo_width: float, **others,
) -> media.Mix:
    """What the widgets ask for."""
    return media.Mix(
        mode="replace" if mode == "replace" else "mix", duck=MODES[mode],
        ducking=media.Ducking(duck_depth_db, duck_attack_ms, duck_release_ms, duck_threshold_db),
        loudness=loudness_lufs if set_loudness else None, true_peak=true_peak_dbtp, width=stereo_width, **others,
    )


def _for_file(video, waveform, sample_rate: int, codec: str | None, rate: int, mix: media.Mix):
    """The track, the VIDEO with it, and what to tell the user."""
    bar = comfy.utils.ProgressBar(1)
    with whole_file(video) as source:
        path = temporary_path(media.suffix_for(source, codec))
        media.check_mux(source, path, mix.mode, codec=codec, rate=rate)
        track = media.mixdown_for(source, waveform, sample_rate, path, codec=codec, rate=rate, **vars(mix))
        report = media.mux(
            source, track.waveform, track.sample_rate, path, codec=codec, rate=rate, callback=bar.update_absolute
        )
    return track, InputImpl.VideoFromFile(path), report.warnings

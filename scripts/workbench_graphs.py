"""The graphs of the workbench: long, timed, layered and edited sound."""

import example
import workbench_notes as notes
from workflow_about import about
from workflow_graphs import (
    ENCODING, INPUTS, PROMPT, RESULT, SOUND, VIDEO, add_loaders, add_notes, add_sampler, add_saved, add_text_and_latent,
)
from workflow_sheet import Node, Sheet

SCENES_VIDEO = example.SCENES_NAME
OFF_SCREEN = "a wooden ball bounces on the floor"
CUTS = "0:08\n0:16"
SCENE_PROMPTS = "\n".join(f"#{number} {clip.caption}" for number, clip in enumerate(example.scenes(), 1))
OWN_SOUND = "someone knocks on a metal door"
TIMED_PROMPTS = "0:00.5-0:03 knocking at a wooden door\n0:04-0:07.5 a hammer hits a glass block again and again"
WIDE = 620  # a column of pictures


@about(
    "Foley for long videos", "Sound for videos of any length, made in windows that overlap, with any sampler.",
    "video to audio", "foley", "long video", "context windows",
)
def foley_long(sheet: Sheet) -> Sheet:
    video, loaders, seen = _watched(sheet, SCENES_VIDEO)
    model, encoders, vae = loaders
    windows = sheet.node("FoleyContextWindows", model=model["MODEL"])
    text = _words(sheet, encoders, seen, "things are hit and knocked at")
    latent = sheet.node("FoleyEmptyLatent", video=seen["video"])
    sampler = sheet.node(
        "KSampler", model=windows["MODEL"], positive=text["positive"], negative=text["negative"],
        latent_image=latent["LATENT"], steps=25, cfg=4.5, sampler_name="euler", scheduler="simple",
    )
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=audio["AUDIO"])
    sound = [windows, sampler, audio, made]
    _place(sheet, notes.LONG, loaders, video, [seen, text, latent], sound, [add_saved(sheet, made)])
    return sheet


@about(
    "A video of several scenes", "Every scene of an edited video gets its sound as a clip of its own, from its own words.",
    "video to audio", "foley", "scenes", "timed prompts",
)
def foley_scenes(sheet: Sheet) -> Sheet:
    video = sheet.node("LoadVideo", file=SCENES_VIDEO, height=340)
    model, encoders, vae = loaders = add_loaders(sheet)
    scenes = sheet.node("FoleyScenes", video=video["VIDEO"], method="times", times=CUTS, height=230)
    seen = sheet.node(
        "FoleyEncodeVideo", encoders=encoders["encoders"], video=video["VIDEO"], scenes=scenes["scenes"]
    )
    text = sheet.node(
        "FoleyTimedPrompts", encoders=encoders["encoders"], prompts=SCENE_PROMPTS, video=seen["video"], height=380
    )
    latent = sheet.node("FoleyEmptyLatent", video=seen["video"])
    sampler = add_sampler(sheet, model, text, latent, steps=25)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=audio["AUDIO"])
    drawn = sheet.node(
        "FoleyTimeline", video=video["VIDEO"], audio=audio["AUDIO"], encoded=seen["video"], timed_prompts=SCENE_PROMPTS,
        height=520,
    )
    add_notes(sheet, notes.SCENES)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    sheet.column(ENCODING, ("Scenes and their words", [scenes, seen, text, latent]))
    sheet.column(SOUND, ("Sound", [sampler, audio, made]))
    sheet.column(WIDE, ("Result", [drawn, add_saved(sheet, made)]))
    return sheet


@about(
    "Words by the clock", "Sounds at their times, from words alone: one prompt a line, with its span.",
    "text to audio", "foley", "timed prompts",
)
def foley_timed_prompts(sheet: Sheet) -> Sheet:
    model, encoders, vae = loaders = add_loaders(sheet)
    text = sheet.node("FoleyTimedPrompts", encoders=encoders["encoders"], prompts=TIMED_PROMPTS, seconds=8.0, height=380)
    latent = sheet.node("FoleyEmptyLatent", seconds=8.0)
    sampler = add_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    saved = sheet.node("SaveAudio", audio=audio["AUDIO"], filename_prefix="audio/foley", height=120)
    drawn = sheet.node("FoleyTimeline", audio=audio["AUDIO"], timed_prompts=TIMED_PROMPTS, height=480)
    add_notes(sheet, notes.TIMED)
    sheet.column(INPUTS, ("Models", loaders))
    sheet.column(ENCODING, ("Words and length", [text, latent]))
    sheet.column(SOUND, ("Sound", [sampler, audio]))
    sheet.column(WIDE, ("Result", [saved, drawn]))
    return sheet


@about(
    "The finished track", "Foley and a video's own sound as one track: ducking, loudness, stereo.",
    "video to audio", "foley", "mixing", "loudness",
)
def foley_mixdown(sheet: Sheet) -> Sheet:
    video, loaders, seen = _watched(sheet, VIDEO)
    model, encoders, vae = loaders

    def layer(title: str, prompt: str, video_guided: bool) -> Node:
        return sheet.node(
            "FoleyLayer", title=title, model=model["MODEL"], encoders=encoders["encoders"], vae=vae["VAE"],
            video=seen["video"], prompt=prompt, video_guided=video_guided, height=440,
        )

    own = layer("In place of your video's own sound", OWN_SOUND, False)
    sounding = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=own["stem"])
    foley = layer("Foley", PROMPT, True)
    made = sheet.node(
        "FoleyMixdown", video=sounding["VIDEO"], audio=foley["stem"], mode="duck original", channels="stereo",
        stereo_width=1.3,
    )
    saved = add_saved(sheet, made)
    add_notes(sheet, notes.MIXDOWN)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    sheet.column(ENCODING, ("Your video's own sound", [own, sounding]))
    sheet.column(ENCODING, ("Foley", [seen, foley]))
    sheet.column(SOUND, ("Mix", [made]))
    sheet.column(RESULT, ("Result", [saved]))
    return sheet


@about(
    "Layers and stems", "Several sounds of one clip, each a stem with its own words, level and seed.",
    "video to audio", "foley", "layers", "mixing",
)
def foley_layers(sheet: Sheet) -> Sheet:
    video, loaders, seen = _watched(sheet, VIDEO)
    model, encoders, vae = loaders

    def layer(title: str, prompt: str, seed: int, video_guided: bool) -> Node:
        return sheet.node(
            "FoleyLayer", title=title, model=model["MODEL"], encoders=encoders["encoders"], vae=vae["VAE"],
            video=seen["video"], prompt=prompt, seed=seed, video_guided=video_guided, height=440,
        )

    action = layer("Layer: what is seen", PROMPT, 0, True)
    outside = layer("Layer: off screen", OFF_SCREEN, 1, False)
    mix = sheet.node("FoleyLayerMix", layer_1=action["stem"], layer_2=outside["stem"], gain_2=-9.0)
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=mix["mix"])
    saved = add_saved(sheet, made)
    add_notes(sheet, notes.LAYERS)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    sheet.column(ENCODING, ("Layers", [seen, action, outside]))
    sheet.column(SOUND, ("Mix", [mix, made]))
    sheet.column(RESULT, ("Result", [saved]))
    return sheet


@about(
    "One second again", "A second of a sound made anew; every sample outside of it stays as it is.",
    "video to audio", "foley", "inpainting", "editing",
)
def foley_retake(sheet: Sheet) -> Sheet:
    video, loaders, seen = _watched(sheet, VIDEO)
    model, encoders, vae = loaders
    text, latent = add_text_and_latent(sheet, encoders, seen)
    sampler = add_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    again = sheet.node(
        "FoleyRetake", audio=audio["AUDIO"], model=model["MODEL"], positive=text["positive"], negative=text["negative"],
        vae=vae["VAE"], start=1.0, end=2.0, seed=1,
    )
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=again["AUDIO"])
    saved = add_saved(sheet, made)
    add_notes(sheet, notes.RETAKE)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    sheet.column(ENCODING, ("Picture, words and length", [seen, text, latent]))
    sheet.column(SOUND, ("Sound", [sampler, audio]))
    sheet.column(SOUND, ("Again, from 1 s to 2 s", [again, made]))
    sheet.column(RESULT, ("Result", [saved]))
    return sheet


@about(
    "A loop without a seam", "Sound for a video that loops: its end goes on into its beginning.",
    "video to audio", "foley", "loop",
)
def foley_seamless_loop(sheet: Sheet) -> Sheet:
    video, loaders, seen = _watched(sheet, VIDEO)
    model, encoders, vae = loaders
    text, latent = add_text_and_latent(sheet, encoders, seen)
    loop = sheet.node(
        "FoleySeamlessLoop", model=model["MODEL"], positive=text["positive"], negative=text["negative"], vae=vae["VAE"],
        latent=latent["LATENT"],
    )
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=loop["AUDIO"])
    _place(sheet, notes.LOOP, loaders, video, [seen, text, latent], [loop, made], [add_saved(sheet, made)])
    return sheet


@about(
    "Four takes, and the best of them", "Four sounds for one video in one run, and the one that you pick.",
    "video to audio", "foley", "batch",
)
def foley_takes(sheet: Sheet) -> Sheet:
    video, loaders, seen = _watched(sheet, VIDEO)
    model, encoders, vae = loaders
    text = _words(sheet, encoders, seen, PROMPT)
    latent = sheet.node("FoleyEmptyLatent", video=seen["video"], batch_size=4)
    sampler = add_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    picked = sheet.node("FoleyPickTake", audio=audio["AUDIO"], index=2, height=190)
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=picked["AUDIO"])
    sound = [sampler, audio, picked, made]
    _place(sheet, notes.TAKES, loaders, video, [seen, text, latent], sound, [add_saved(sheet, made)])
    return sheet


def _watched(sheet: Sheet, file: str) -> tuple[Node, list[Node], Node]:
    """The video, the three loaders, and the features of all of the picture."""
    video = sheet.node("LoadVideo", file=file, height=340)
    loaders = add_loaders(sheet)
    return video, loaders, sheet.node("FoleyEncodeVideo", encoders=loaders[1]["encoders"], video=video["VIDEO"])


def _words(sheet: Sheet, encoders: Node, seen: Node, prompt: str) -> Node:
    return sheet.node("FoleyEncodeText", encoders=encoders["encoders"], video=seen["video"], prompt=prompt, height=300)


def _place(
    sheet: Sheet, note: str, loaders: list[Node], video: Node, encoding: list[Node], sound: list[Node],
    result: list[Node],
) -> None:
    add_notes(sheet, note)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    sheet.column(ENCODING, ("Picture, words and length", encoding))
    sheet.column(SOUND, ("Sound", sound))
    sheet.column(RESULT, ("Result", result))


GRAPHS = (
    foley_long, foley_scenes, foley_timed_prompts, foley_layers, foley_retake, foley_seamless_loop, foley_takes, foley_mixdown,
)

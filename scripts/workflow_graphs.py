"""The graphs of the first workflows, and the parts that all of them share."""

from collections.abc import Callable

import example
import released_files
import workflow_notes as notes
from workflow_about import about
from workflow_sheet import Node, Sheet

from hunyuan_foley_core import small_model

VIDEO, PROMPT = example.NAME, example.clip().caption
TEXT_PROMPT = "a hammer hits a metal block again and again"
SMALL = {
    "transformer": small_model.TRANSFORMER, "siglip2": small_model.SIGLIP2, "synchformer": small_model.SYNCHFORMER,
    "clap": small_model.CLAP, "vae": small_model.VAE,
}
# Players of videos stand at the foot of their columns: they grow downwards with upright videos.
NOTES, INPUTS, ENCODING, SOUND, RESULT = 360, 490, 410, 340, 420  # widths of the columns


@about(
    "Video to foley", "A silent video in, the same video with sound out: the one to begin with.",
    "video to audio", "foley", "sound effects",
)
def video_to_foley(sheet: Sheet) -> Sheet:
    return _video_with(sheet, _sampled, notes.VIDEO_NOTE)


@about(
    "Video to foley, released weights",
    "The same with the released weights chosen: ComfyUI names those that are missing, and where they come from.",
    "video to audio", "foley", "sound effects", "released weights",
)
def foley_released_weights(sheet: Sheet) -> Sheet:
    return _video_with(sheet, _sampled, notes.RELEASED_NOTE, released_files.names("xxl"))


@about(
    "Foley, fast", "A video gets its sound in a third of the time: 16 steps in place of 50.",
    "video to audio", "foley", "fast sampling",
)
def foley_fast(sheet: Sheet) -> Sheet:
    def sampler(sheet, model, text, latent):
        shifted = sheet.node("ModelSamplingSD3", model=model["MODEL"], shift=notes.FAST_SHIFT)
        return [shifted, add_sampler(sheet, shifted, text, latent, steps=notes.FAST_STEPS, sampler_name=notes.FAST_SOLVER)]

    return _video_with(sheet, sampler, notes.FAST_NOTE)


@about(
    "Foley with the stock KSampler", "A video gets its sound from ComfyUI's own KSampler: the model is a plain MODEL.",
    "video to audio", "foley", "KSampler",
)
def foley_stock_ksampler(sheet: Sheet) -> Sheet:
    def sampler(sheet, model, text, latent):
        return [sheet.node(
            "KSampler", model=model["MODEL"], positive=text["positive"], negative=text["negative"],
            latent_image=latent["LATENT"], steps=50, cfg=4.5, sampler_name="euler", scheduler="simple",
        )]

    return _video_with(sheet, sampler, notes.KSAMPLER_NOTE)


@about("Text to foley", "Words in, sound out, without a video.", "text to audio", "foley", "sound effects")
def text_to_foley(sheet: Sheet) -> Sheet:
    model, encoders, vae = loaders = add_loaders(sheet)
    text = sheet.node("FoleyEncodeText", encoders=encoders["encoders"], prompt=TEXT_PROMPT, height=340)
    latent = sheet.node("FoleyEmptyLatent")
    sampler = add_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    saved = sheet.node("SaveAudio", audio=audio["AUDIO"], filename_prefix="audio/foley", height=120)
    add_notes(sheet, notes.TEXT_NOTE)
    sheet.column(INPUTS, ("Models", loaders))
    sheet.column(ENCODING, ("Words and length", [text, latent]))
    sheet.column(SOUND, ("Sound", [sampler, audio]), ("Result", [saved]))
    return sheet


@about(
    "Foley after a video generator", "Sound for the pictures that a video model has just made: IMAGE and a frame rate in.",
    "video to audio", "foley", "video generation",
)
def foley_after_generator(sheet: Sheet) -> Sheet:
    video = sheet.node("LoadVideo", file=VIDEO, height=340)
    frames = sheet.node("GetVideoComponents", video=video["VIDEO"])
    model, encoders, vae = loaders = add_loaders(sheet)
    seen = sheet.node(
        "FoleyEncodeVideo", encoders=encoders["encoders"], images=frames["images"], frame_rate=frames["fps"]
    )
    text, latent = add_text_and_latent(sheet, encoders, seen)
    sampler = add_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    made = sheet.node("CreateVideo", images=frames["images"], fps=frames["fps"], audio=audio["AUDIO"])
    saved = add_saved(sheet, made)
    add_notes(sheet, notes.GENERATOR_NOTE)
    sheet.column(INPUTS, ("Models", loaders), ("Your video generator in place of this", [frames, video]))
    place_encoding_to_result(sheet, [seen, text, latent], [sampler, audio, made], [saved])
    return sheet


def _sampled(sheet: Sheet, model: Node, text: Node, latent: Node) -> list[Node]:
    return [add_sampler(sheet, model, text, latent)]


def _video_with(
    sheet: Sheet, add_sampling: Callable[..., list[Node]], note: str, files: dict[str, str] = SMALL
) -> Sheet:
    """A video in, the same with sound out; `add_sampling` gives the nodes from the model on, the sampler last."""
    video = sheet.node("LoadVideo", file=VIDEO, height=340)
    model, encoders, vae = loaders = add_loaders(sheet, files)
    seen = sheet.node("FoleyEncodeVideo", encoders=encoders["encoders"], video=video["VIDEO"])
    text, latent = add_text_and_latent(sheet, encoders, seen)
    sampling = add_sampling(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampling[-1]["LATENT"], vae=vae["VAE"])
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=audio["AUDIO"])
    saved = add_saved(sheet, made)
    add_notes(sheet, note, small=files is SMALL)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    place_encoding_to_result(sheet, [seen, text, latent], [*sampling, audio, made], [saved])
    return sheet


def add_loaders(sheet: Sheet, files: dict[str, str] = SMALL) -> list[Node]:
    """Those of model, encoders and VAE; `files` by what is in them."""
    return [
        sheet.node("FoleyLoadModel", model_name=files["transformer"]),
        sheet.node(
            "FoleyLoadEncoders", siglip2_name=files["siglip2"], synchformer_name=files["synchformer"],
            clap_name=files["clap"],
        ),
        sheet.node("FoleyLoadVAE", vae_name=files["vae"]),
    ]


def add_text_and_latent(sheet: Sheet, encoders: Node, seen: Node) -> tuple[Node, Node]:
    text = sheet.node(
        "FoleyEncodeText", encoders=encoders["encoders"], video=seen["video"], prompt=PROMPT, height=300
    )
    return text, sheet.node("FoleyEmptyLatent", video=seen["video"])


def add_sampler(sheet: Sheet, model: Node, text: Node, latent: Node, **settings) -> Node:
    return sheet.node(
        "FoleySampler", model=model["MODEL"], positive=text["positive"], negative=text["negative"],
        latent=latent["LATENT"], **settings,
    )


def add_saved(sheet: Sheet, made: Node) -> Node:
    return sheet.node("SaveVideo", video=made["VIDEO"], filename_prefix="video/foley", height=400)


def place_encoding_to_result(sheet: Sheet, encoding: list[Node], sound: list[Node], result: list[Node]) -> None:
    """The columns on the right."""
    sheet.column(ENCODING, ("Picture, words and length", encoding))
    sheet.column(SOUND, ("Sound", sound))
    sheet.column(RESULT, ("Result", result))


def add_notes(sheet: Sheet, text: str, small: bool = True) -> None:
    """What it is for, under its title; what the `small` model is, where that is chosen; where the released files go."""
    written = [sheet.note(sheet.about.title, text, 170)]
    written += [sheet.note("The small model", notes.SMALL_MODEL, 170)] if small else []
    sheet.column(NOTES, ("", [*written, sheet.note("The released weights", notes.FILES, 470)]))


GRAPHS = (
    video_to_foley, foley_fast, text_to_foley, foley_after_generator, foley_stock_ksampler, foley_released_weights,
)

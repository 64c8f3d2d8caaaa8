"""The graphs that begin with a sound: one that goes on, one that is varied, a region of it made anew by the stock KSampler."""

import workbench_notes as notes
from workflow_about import about
from workflow_graphs import (
    ENCODING, INPUTS, RESULT, SOUND, TEXT_PROMPT, VIDEO, add_loaders, add_notes, add_sampler, add_saved, add_text_and_latent,
)
from workflow_sheet import Node, Sheet

OTHER_PROMPT = "a hammer hits a wooden block again and again"
SECONDS = 4.0


@about(
    "A sound goes on", "Any sound, made longer: up to its last moments every sample stays as it is.",
    "audio to audio", "foley", "outpainting", "editing",
)
def foley_extend(sheet: Sheet) -> Sheet:
    model, _, vae = loaders = add_loaders(sheet)
    given, text = _given(sheet, loaders)
    longer = sheet.node(
        "FoleyExtend", audio=given[-1]["AUDIO"], model=model["MODEL"], positive=text["positive"],
        negative=text["negative"], vae=vae["VAE"], seconds=3.0, seed=1,
    )
    _place(sheet, notes.EXTEND, loaders, given, ("Longer by 3 s", [longer]), longer)
    return sheet


@about(
    "A sound, varied", "Any sound as a start, with as much of it changed as you say: audio to audio.",
    "audio to audio", "foley", "variation",
)
def foley_vary(sheet: Sheet) -> Sheet:
    model, encoders, vae = loaders = add_loaders(sheet)
    given, _ = _given(sheet, loaders)
    start = sheet.node("FoleyDACEncode", audio=given[-1]["AUDIO"], vae=vae["VAE"])
    text = sheet.node("FoleyEncodeText", encoders=encoders["encoders"], prompt=OTHER_PROMPT, height=300)
    sampler = add_sampler(sheet, model, text, start, denoise=0.7, seed=1)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    _place(sheet, notes.VARY, loaders, given, ("Varied", [text, start, sampler, audio]), audio)
    return sheet


@about(
    "A region anew with KSampler",
    "A mask over time lets ComfyUI's own KSampler make only a region of a sound anew.",
    "video to audio", "foley", "inpainting", "KSampler",
)
def foley_region_ksampler(sheet: Sheet) -> Sheet:
    video = sheet.node("LoadVideo", file=VIDEO, height=340)
    model, encoders, vae = loaders = add_loaders(sheet)
    seen = sheet.node("FoleyEncodeVideo", encoders=encoders["encoders"], video=video["VIDEO"])
    text, latent = add_text_and_latent(sheet, encoders, seen)
    first = add_sampler(sheet, model, text, latent)
    region = sheet.node("FoleyRegionMask", samples=first["LATENT"], start=1.0, end=2.0)
    again = sheet.node(
        "KSampler", model=model["MODEL"], positive=text["positive"], negative=text["negative"],
        latent_image=region["LATENT"], seed=1, steps=50, cfg=4.5, sampler_name="euler", scheduler="simple",
    )
    audio = sheet.node("FoleyDACDecode", samples=again["LATENT"], vae=vae["VAE"])
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=audio["AUDIO"])
    saved = add_saved(sheet, made)
    add_notes(sheet, notes.REGION)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    sheet.column(ENCODING, ("Picture, words and length", [seen, text, latent]))
    sheet.column(SOUND, ("Sound, and the region", [first, region]))
    sheet.column(SOUND, ("Again, from 1 s to 2 s", [again, audio, made]))
    sheet.column(RESULT, ("Result", [saved]))
    return sheet


def _given(sheet: Sheet, loaders: list[Node]) -> tuple[list[Node], Node]:
    """What stands for a sound of the user's, the node that hands it out last, and its words."""
    model, encoders, vae = loaders
    text = sheet.node("FoleyEncodeText", encoders=encoders["encoders"], prompt=TEXT_PROMPT, height=300)
    latent = sheet.node("FoleyEmptyLatent", seconds=SECONDS)
    sampler = add_sampler(sheet, model, text, latent)
    return [text, latent, sampler, sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])], text


def _place(
    sheet: Sheet, note: str, loaders: list[Node], given: list[Node], changed: tuple[str, list[Node]], last: Node
) -> None:
    saved = sheet.node("SaveAudio", audio=last["AUDIO"], filename_prefix="audio/foley", height=120)
    add_notes(sheet, note)
    sheet.column(INPUTS, ("Models", loaders))
    sheet.column(ENCODING, ("Your sound in place of this", given))
    sheet.column(SOUND, changed)
    sheet.column(RESULT, ("Result", [saved]))


GRAPHS = (foley_extend, foley_vary, foley_region_ksampler)

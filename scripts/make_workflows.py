"""Makes workflows/: five graphs in both of ComfyUI's formats, pictures of them, and a video to try them on.

Run it when a node or the small model has changed.

    python scripts/make_workflows.py COMFYUI    (in a Python with ComfyUI's packages and playwright; needs Chromium)
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import comfy_page
import example
from comfy_server import ComfyServer, install_pack
from workflow_sheet import Node, Sheet

from hunyuan_foley_core import small_model

WORKFLOWS = ROOT / "workflows"
THUMBNAIL_SIZE = (1600, 900)

VIDEO, PROMPT = "foley_example.mp4", example.clip().caption
TEXT_PROMPT = "a hammer hits a metal block again and again"
# Players of videos stand at the foot of their columns: they grow downwards with upright videos.
NOTES, INPUTS, ENCODING, SOUND, RESULT = 360, 450, 380, 340, 420  # widths of the columns

# Bold and not code: "Nodes 2.0" draws code as dark as its background.
SMALL_MODEL = f"""\
This workflow runs as it is, with the **small model that comes with this pack** (**{small_model.TRANSFORMER}** and its \
encoders and VAE, **foley_tiny_...**). It was trained on **simple synthetic scenes**: things of wood, metal, glass, rubber \
and stone that fall, bounce, roll, are hammered or knocked at. It is **not for real footage** and knows no other sounds.

For real footage get the released weights, below."""

FILES = """\
Put these into the folders of ComfyUI's *models*, press R, and **choose them in the three loaders** (*Load Foley Model*, \
*Load Foley Encoders*, *Load Foley VAE*) in place of the small model's:

*diffusion_models*
- **hunyuanvideo_foley.pth** (XXL, 10.3 GB) or **hunyuanvideo_foley_xl.pth** (XL, 5.8 GB)

*vae*
- **vae_128d_48k.pth** (1.5 GB)

*foley*
- **synchformer_state_dict.pth** (0.95 GB)

These are in [tencent/HunyuanVideo-Foley](https://huggingface.co/tencent/HunyuanVideo-Foley).

*clip_vision*
- **siglip2_base_patch16_512.safetensors** (1.5 GB): model.safetensors of [google/siglip2-base-patch16-512]\
(https://huggingface.co/google/siglip2-base-patch16-512), renamed

*text_encoders*
- **larger_clap_general.safetensors** (0.8 GB): model.safetensors of [laion/larger_clap_general]\
(https://huggingface.co/laion/larger_clap_general), renamed
- **tokenizer.json** from the same place

Other names and subfolders are fine too. The loader's *tokenizer_name* can stay as it is.

**Licence.** Tencent's weights come under the Tencent Hunyuan community licence, which does not extend to the European \
Union, the United Kingdom and South Korea."""

VIDEO_NOTE = """\
1. Choose a video in *Load Video*. To try the small model, upload **foley_example.mp4** from this pack's folder \
*workflows*.
2. Say what is heard in *Encode Text*.
3. Run. The video comes back with sound, its picture untouched.

Clips of 8 to 10 s are best. Of longer ones the first 15 s get sound."""

TEXT_NOTE = """\
1. Say what is heard in *Encode Text*.
2. Set the length in *Empty Foley Latent*; 8 to 10 s are best.
3. Run. The sound is saved as a FLAC file, 48 kHz."""

GENERATOR_NOTE = """\
Sound for pictures that a video model has just made.

1. To try it, upload **foley_example.mp4** from this pack's folder *workflows* to *Load Video*. Then replace the two \
nodes of the purple group with your generator: connect its IMAGE to *Encode Video* and *Create \
Video*, and give both the frame rate it was made for.
2. Say what is heard in *Encode Text* and run."""

# What docs/solvers.md recommends for speed.
FAST_SOLVER, FAST_STEPS, FAST_SHIFT = "dpmpp_2m", 16, 5.0

FAST_NOTE = f"""\
The same as *video to foley* (try it on **foley_example.mp4** from this pack's folder *workflows*) in a third of the time: \
**{FAST_STEPS} steps** of **{FAST_SOLVER}**, and *ModelSamplingSD3* shifts the steps towards noise, where it is decided what is heard \
and when (shift **{FAST_SHIFT:g}**).

With the small model this comes nearer to the exact result than 50 steps of euler do; docs/solvers.md has the figures. For the most exact result \
set 50 steps."""

KSAMPLER_NOTE = """\
The same as *video to foley* (try it on **foley_example.mp4** from this pack's folder *workflows*), sampled by ComfyUI's own KSampler: the model is a plain MODEL, so other samplers, \
guiders and model patches work on it in the same way.

Keep the scheduler at *simple* and the steps at a divisor of 1000, such as 25, 40 or 50: then it takes exactly the \
published steps."""


def main(comfyui: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, comfy_page.browser() as browser:
        base = Path(folder)
        example.write(WORKFLOWS / VIDEO)
        install_pack(base)
        with ComfyServer(comfyui, base) as server:
            server.add_input(WORKFLOWS / VIDEO)
            schemas = server.object_info()
            for make in (video_to_foley, foley_fast, text_to_foley, foley_after_generator, foley_stock_ksampler):
                sheet = make(Sheet(schemas))
                write(make.__name__, sheet)
                take_picture(comfy_page.ComfyPage(browser, server.url), sheet, WORKFLOWS / f"{make.__name__}.jpg")


def take_picture(page: comfy_page.ComfyPage, sheet: Sheet, path: Path) -> None:
    """The graph as it is, after a run, so that it shows a result."""
    page.load(sheet.ui(path.stem))
    seed = page.widget("seed")  # the page draws another one after a run
    if (end := page.run()) != "execution_success":
        raise RuntimeError(f"{path.stem} does not run: {end}")
    page.set_widget("seed", seed)
    page.picture(path, THUMBNAIL_SIZE)
    page.close()


def write(name: str, sheet: Sheet) -> None:
    for path, content in ((f"{name}.json", sheet.ui(name)), (f"api/{name}.json", sheet.api())):
        (WORKFLOWS / path).parent.mkdir(parents=True, exist_ok=True)
        (WORKFLOWS / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def video_to_foley(sheet: Sheet) -> Sheet:
    def sampler(sheet, model, text, latent):
        return [_foley_sampler(sheet, model, text, latent)]

    return _video_with(sheet, sampler, "Video to foley", VIDEO_NOTE)


def foley_fast(sheet: Sheet) -> Sheet:
    def sampler(sheet, model, text, latent):
        shifted = sheet.node("ModelSamplingSD3", model=model["MODEL"], shift=FAST_SHIFT)
        return [shifted, _foley_sampler(sheet, shifted, text, latent, steps=FAST_STEPS, sampler_name=FAST_SOLVER)]

    return _video_with(sheet, sampler, "Foley, fast", FAST_NOTE)


def foley_stock_ksampler(sheet: Sheet) -> Sheet:
    def sampler(sheet, model, text, latent):
        return [sheet.node(
            "KSampler", model=model["MODEL"], positive=text["positive"], negative=text["negative"],
            latent_image=latent["LATENT"], steps=50, cfg=4.5, sampler_name="euler", scheduler="simple",
        )]

    return _video_with(sheet, sampler, "Foley with the stock KSampler", KSAMPLER_NOTE)


def text_to_foley(sheet: Sheet) -> Sheet:
    model, encoders, vae = loaders = _loaders(sheet)
    text = sheet.node("FoleyEncodeText", encoders=encoders["encoders"], prompt=TEXT_PROMPT, height=340)
    latent = sheet.node("FoleyEmptyLatent")
    sampler = _foley_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    saved = sheet.node("SaveAudio", audio=audio["AUDIO"], filename_prefix="audio/foley", height=120)
    _notes(sheet, "Text to foley", TEXT_NOTE)
    sheet.column(INPUTS, ("Models", loaders))
    sheet.column(ENCODING, ("Words and length", [text, latent]))
    sheet.column(SOUND, ("Sound", [sampler, audio]), ("Result", [saved]))
    return sheet


def foley_after_generator(sheet: Sheet) -> Sheet:
    video = sheet.node("LoadVideo", file=VIDEO, height=340)
    frames = sheet.node("GetVideoComponents", video=video["VIDEO"])
    model, encoders, vae = loaders = _loaders(sheet)
    seen = sheet.node(
        "FoleyEncodeVideo", encoders=encoders["encoders"], images=frames["images"], frame_rate=frames["fps"]
    )
    text, latent = _text_and_latent(sheet, encoders, seen)
    sampler = _foley_sampler(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    made = sheet.node("CreateVideo", images=frames["images"], fps=frames["fps"], audio=audio["AUDIO"])
    saved = _saved(sheet, made)
    _notes(sheet, "Foley after a video generator", GENERATOR_NOTE)
    sheet.column(INPUTS, ("Models", loaders), ("Your video generator in place of this", [frames, video]))
    _encoding_to_result(sheet, [seen, text, latent], [sampler, audio, made], [saved])
    return sheet


def _video_with(sheet: Sheet, add_sampling: Callable[..., list[Node]], title: str, note: str) -> Sheet:
    """A video in, the same with sound out; `add_sampling` gives the nodes from the model on, the sampler last."""
    video = sheet.node("LoadVideo", file=VIDEO, height=340)
    model, encoders, vae = loaders = _loaders(sheet)
    seen = sheet.node("FoleyEncodeVideo", encoders=encoders["encoders"], video=video["VIDEO"])
    text, latent = _text_and_latent(sheet, encoders, seen)
    sampling = add_sampling(sheet, model, text, latent)
    audio = sheet.node("FoleyDACDecode", samples=sampling[-1]["LATENT"], vae=vae["VAE"])
    made = sheet.node("FoleyMuxAudio", video=video["VIDEO"], audio=audio["AUDIO"])
    saved = _saved(sheet, made)
    _notes(sheet, title, note)
    sheet.column(INPUTS, ("Models", loaders), ("Your video", [video]))
    _encoding_to_result(sheet, [seen, text, latent], [*sampling, audio, made], [saved])
    return sheet


def _loaders(sheet: Sheet) -> list[Node]:
    return [
        sheet.node("FoleyLoadModel", model_name=small_model.TRANSFORMER),
        sheet.node(
            "FoleyLoadEncoders", siglip2_name=small_model.SIGLIP2,
            synchformer_name=small_model.SYNCHFORMER, clap_name=small_model.CLAP,
        ),
        sheet.node("FoleyLoadVAE", vae_name=small_model.VAE),
    ]


def _text_and_latent(sheet: Sheet, encoders: Node, seen: Node) -> tuple[Node, Node]:
    text = sheet.node(
        "FoleyEncodeText", encoders=encoders["encoders"], video=seen["video"], prompt=PROMPT, height=300
    )
    return text, sheet.node("FoleyEmptyLatent", video=seen["video"])


def _foley_sampler(sheet: Sheet, model: Node, text: Node, latent: Node, **settings) -> Node:
    return sheet.node(
        "FoleySampler", model=model["MODEL"], positive=text["positive"], negative=text["negative"],
        latent=latent["LATENT"], **settings,
    )


def _saved(sheet: Sheet, made: Node) -> Node:
    return sheet.node("SaveVideo", video=made["VIDEO"], filename_prefix="video/foley", height=400)


def _encoding_to_result(sheet: Sheet, encoding: list[Node], sound: list[Node], result: list[Node]) -> None:
    """The columns on the right."""
    sheet.column(ENCODING, ("Picture, words and length", encoding))
    sheet.column(SOUND, ("Sound", sound))
    sheet.column(RESULT, ("Result", result))


def _notes(sheet: Sheet, title: str, text: str) -> None:
    notes = [
        sheet.note(title, text, 170), sheet.note("The small model", SMALL_MODEL, 170),
        sheet.note("The released weights", FILES, 470),
    ]
    sheet.column(NOTES, ("", notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

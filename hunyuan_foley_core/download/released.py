"""Which files each model is made of, and where they belong. Sizes, hashes and licences the hub alone knows."""

from dataclasses import dataclass

TENCENT = "tencent/HunyuanVideo-Foley"
NOTES = {TENCENT: "This licence does not extend to the European Union, the United Kingdom and South Korea."}
FP8 = "fp8_e4m3fn_scaled"  # as `convert` knows it


@dataclass(frozen=True)
class Released:
    """A file on the hub.

    Attributes:
        what: the network in it, as `pipeline.ModelFiles` calls it.
        repository: on the hub.
        names: its name there; of several, the first that is there.
        folder: where it goes, below ComfyUI's `models`.
        saved_as: its name here without the suffix, which stays as it is on the hub.
        convert: what `convert` makes of it; the original is not kept.
    """

    what: str
    repository: str
    names: tuple[str, ...]
    folder: str
    saved_as: str
    convert: str | None = None


def _transformer(name: str) -> Released:
    return Released("transformer", TENCENT, (f"{name}.pth",), "diffusion_models", name)


CLAP = "laion/larger_clap_general"
OTHERS = (
    Released("vae", TENCENT, ("vae_128d_48k.pth",), "vae", "vae_128d_48k"),
    Released("synchformer", TENCENT, ("synchformer_state_dict.pth",), "foley", "synchformer_state_dict"),
    Released(
        "siglip2", "google/siglip2-base-patch16-512", ("model.safetensors",), "clip_vision", "siglip2_base_patch16_512"
    ),
    Released("clap", CLAP, ("model.safetensors", "pytorch_model.bin"), "text_encoders", "larger_clap_general"),
    Released("tokenizer", CLAP, ("tokenizer.json",), "text_encoders", "tokenizer"),  # the loaders look for it beside CLAP
)
XXL, XL = _transformer("hunyuanvideo_foley"), _transformer("hunyuanvideo_foley_xl")
# No fp8 file is published by the model's makers: it is made here, of theirs.
XXL_FP8 = Released("transformer", TENCENT, XXL.names, XXL.folder, f"hunyuanvideo_foley_{FP8}", FP8)
NETWORKS = tuple(released.what for released in (XXL, *OTHERS))
MODELS = {"xxl": (XXL, *OTHERS), "xl": (XL, *OTHERS), "xxl-fp8": (XXL_FP8, *OTHERS)}

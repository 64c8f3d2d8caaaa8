"""The three loaders: names of files in, objects of ComfyUI out."""

from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core import small_model
from . import folders
from .comfy_encoders import load_foley_encoders
from .comfy_vae import FoleyVAE
from .load_model import WEIGHT_DTYPES, load_foley_model
from .sockets import CATEGORY, FoleyEncodersIO

BESIDE_CLAP = "tokenizer.json beside the CLAP file"


def _file_widget(name: str, places: tuple[str, ...], likely: str, small: str, tooltip: str) -> io.Combo.Input:
    """`likely` is in the names of released files; `small` is the small model's file, which comes with this pack."""
    where = ", ".join(f"models/{place}" for place in places)
    tooltip = f"{tooltip} From {where}. {small} comes with this pack: a small model of simple synthetic scenes."
    return io.Combo.Input(name, options=folders.model_names(places, likely, small), tooltip=tooltip)


def model_widget() -> io.Combo.Input:
    return _file_widget(
        "model_name", folders.TRANSFORMER_FOLDERS, "foley", small_model.TRANSFORMER,
        "hunyuanvideo_foley.pth (XXL), hunyuanvideo_foley_xl.pth, or a conversion of one of them.",
    )


def vae_widget() -> io.Combo.Input:
    return _file_widget(
        "vae_name", folders.VAE_FOLDERS, "128d", small_model.VAE, "vae_128d_48k.pth, or a conversion of it."
    )


def encoder_widgets() -> list[io.Combo.Input]:
    tokenizers = [*folders.tokenizer_names(), BESIDE_CLAP]
    return [
        _file_widget(
            "siglip2_name", folders.ENCODER_FOLDERS, "siglip", small_model.SIGLIP2,
            "SigLIP2: model.safetensors of google/siglip2-base-patch16-512, or its vision part.",
        ),
        _file_widget(
            "synchformer_name", folders.ENCODER_FOLDERS, "synchformer", small_model.SYNCHFORMER,
            "Synchformer: synchformer_state_dict.pth, or its visual part.",
        ),
        _file_widget(
            "clap_name", folders.ENCODER_FOLDERS, "clap", small_model.CLAP,
            "CLAP: the weights of laion/larger_clap_general, or their text part.",
        ),
        io.Combo.Input(
            "tokenizer_name", options=tokenizers,
            default=tokenizers[0] if "clap" in tokenizers[0].lower() else BESIDE_CLAP,
            tooltip="tokenizer.json of laion/larger_clap_general: under that name beside the CLAP file, or "
            "under any name from models/text_encoders or models/foley. The small model has its own beside its CLAP.",
        ),
    ]


class FoleyLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyLoadModel",
            display_name="Load Foley Model",
            category=CATEGORY,
            description="Loads the HunyuanVideo-Foley transformer, XXL or XL. Stock samplers and patches take it too.",
            inputs=[
                model_widget(),
                io.Combo.Input(
                    "weight_dtype", options=list(WEIGHT_DTYPES), default="default",
                    tooltip="How the weights are kept in memory. default: as in the file (XXL in bf16: 10.3 GB, XL: "
                    "5.8 GB). fp8 takes half of bf16 and changes the sound a little; a file in fp8, with scales or "
                    "without, stays as it is. fp16 also computes in fp16 where the GPU can; the others compute in bf16, "
                    "or in fp32 on a CPU or a GPU without bf16.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="For Foley Sampler, stock samplers, LoRA loaders and patches.")],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str) -> io.NodeOutput:
        path = folders.model_path(model_name, folders.TRANSFORMER_FOLDERS)
        return io.NodeOutput(load_foley_model(path, weight_dtype))


class FoleyLoadEncoders(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyLoadEncoders",
            display_name="Load Foley Encoders",
            category=CATEGORY,
            description="Loads what the model sees and reads with: SigLIP2 and Synchformer, and CLAP for text.",
            inputs=encoder_widgets(),
            outputs=[
                FoleyEncodersIO.Output(display_name="encoders", tooltip="For Encode Video, Encode Text and Foley Layer."),
            ],
        )

    @classmethod
    def execute(cls, siglip2_name: str, synchformer_name: str, clap_name: str, tokenizer_name: str) -> io.NodeOutput:
        names = (siglip2_name, synchformer_name, clap_name)
        paths = [folders.model_path(name, folders.ENCODER_FOLDERS) for name in names]
        tokenizer = None if tokenizer_name == BESIDE_CLAP else folders.tokenizer_path(tokenizer_name)
        return io.NodeOutput(load_foley_encoders(*paths, tokenizer))


class FoleyLoadVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyLoadVAE",
            display_name="Load Foley VAE",
            category=CATEGORY,
            description="Loads the DAC-VAE, which turns latents into 48 kHz sound and back.",
            inputs=[vae_widget()],
            outputs=[io.Vae.Output(tooltip="For DAC Decode, DAC Encode and the nodes that make sound directly.")],
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(FoleyVAE(folders.model_path(vae_name, folders.VAE_FOLDERS)))

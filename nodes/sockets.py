"""Socket types of this pack's own, and what ComfyUI's types hold that our nodes take."""

import comfy.model_patcher
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.errors import WrongConnectionError
from .comfy_model import FoleyModel
from .comfy_vae import FoleyVAE

CATEGORY = "Foley"

FoleyEncodersIO = io.Custom("FOLEY_ENCODERS")
FoleyScenesIO = io.Custom("FOLEY_SCENES")
FoleyVideoIO = io.Custom("FOLEY_VIDEO")


def require_foley_model(model: comfy.model_patcher.ModelPatcher) -> None:
    if not isinstance(model.model, FoleyModel):
        raise WrongConnectionError(
            f"The connected MODEL is a {type(model.model).__name__}.",
            "Expected a HunyuanVideo-Foley transformer.",
            "Connect Load Foley Model.",
        )


def require_foley_vae(vae) -> None:
    if not isinstance(vae, FoleyVAE):
        network = getattr(vae, "first_stage_model", vae)
        raise WrongConnectionError(
            f"The connected VAE is a {type(network).__name__}.",
            "Expected the DAC-VAE of HunyuanVideo-Foley.",
            "Connect Load Foley VAE.",
        )

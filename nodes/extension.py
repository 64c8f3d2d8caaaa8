"""The list of nodes. ComfyUI asks for it once, when it starts."""

from comfy_api.v0_0_2 import ComfyExtension, io

from .audio import FoleyDACDecode, FoleyDACEncode
from .context_windows import FoleyContextWindows
from .download import FoleyDownloadModels
from .editing import FoleyExtend, FoleyRegionMask, FoleyRetake, FoleySeamlessLoop
from .encode import FoleyEncodeText, FoleyEncodeVideo
from .guidance import FoleyGuidanceInterval
from .latent import FoleyEmptyLatent
from .layers import FoleyLayer, FoleyLayerMix
from .loaders import FoleyLoadEncoders, FoleyLoadModel, FoleyLoadVAE
from .mixdown import FoleyMixdown
from .mux import FoleyMuxAudio
from .sampler import FoleySampler
from .scenes import FoleyScenes
from .takes import FoleyPickTake
from .timed_prompts import FoleyTimedPrompts
from .timeline import FoleyTimeline
from .train_lora import FoleyTrainLoRA


class FoleyExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            FoleyDownloadModels,
            FoleyLoadModel,
            FoleyLoadEncoders,
            FoleyLoadVAE,
            FoleyScenes,
            FoleyEncodeVideo,
            FoleyEncodeText,
            FoleyTimedPrompts,
            FoleyEmptyLatent,
            FoleyGuidanceInterval,
            FoleyContextWindows,
            FoleySampler,
            FoleyLayer,
            FoleyLayerMix,
            FoleyRetake,
            FoleyExtend,
            FoleySeamlessLoop,
            FoleyRegionMask,
            FoleyPickTake,
            FoleyDACDecode,
            FoleyDACEncode,
            FoleyMuxAudio,
            FoleyMixdown,
            FoleyTimeline,
            FoleyTrainLoRA,
        ]

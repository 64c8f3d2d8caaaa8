"""Guidance at some noise levels only, as a patch of MODEL: works with every sampler that takes a cfg."""

from collections.abc import Callable

import comfy.samplers
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.sampling import GuidanceInterval, check_interval, is_guided
from .sockets import CATEGORY, require_foley_model

# Where ComfyUI's samplers look for another way to compute the conditional and the unconditional prediction.
PREDICTIONS_KEY = "sampler_calc_cond_batch_function"


class FoleyGuidanceInterval(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyGuidanceInterval",
            display_name="Guidance Interval (Foley)",
            category=CATEGORY,
            description="Guides the sound only at some noise levels. At the others the negative prompt is not computed, "
            "so such a step takes half the time. Sampling goes from noise level 1 down to 0.",
            inputs=[
                io.Model.Input("model", tooltip="From Load Foley Model, with any LoRA or patch in between."),
                io.Float.Input(
                    "sigma_high", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="Noise level (sigma) at which guidance begins, 0 to 1; 1 guides from the first step.",
                ),
                io.Float.Input(
                    "sigma_low", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="Noise level (sigma) down to which guidance works, 0 to sigma_high; 0 guides up to the last "
                    "step.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, guided at these noise levels only, for any sampler.")],
        )

    @classmethod
    def execute(cls, model, sigma_high, sigma_low) -> io.NodeOutput:
        require_foley_model(model)
        return io.NodeOutput(guide_within(model, (sigma_high, sigma_low)))


def guide_within(model, interval: GuidanceInterval):
    """A copy of the ModelPatcher that computes the unconditional half only where low < sigma <= high.

    Raises:
        InputError: not 1 >= high >= low >= 0.
    """
    check_interval(interval)
    patched = model.clone()
    patched.set_model_sampler_calc_cond_batch_function(
        _only_within(interval, patched.model_options.get(PREDICTIONS_KEY, _as_usual))
    )
    return patched


def _as_usual(args: dict) -> list:
    return comfy.samplers.calc_cond_batch(
        args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
    )


def _only_within(interval: GuidanceInterval, predict: Callable[[dict], list]) -> Callable[[dict], list]:
    """`predict`, the way to predict until now, but with the conditional prediction in place of the others outside."""

    def predict_within(args: dict) -> list:
        # All samples of a batch are at the same noise level.
        if is_guided(float(args["sigma"].max()), interval):
            return predict(args)
        conditional, *others = args["conds"]
        prediction = predict({**args, "conds": [conditional, *(None for _ in others)]})[0]
        # Guidance between equal predictions is that prediction, at every scale.
        return [prediction for _ in args["conds"]]

    return predict_within

"""Fetching the released weights from within ComfyUI, when it is asked for and not before."""


import comfy.model_management
import comfy.utils
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core import download
from ..hunyuan_foley_core.errors import LicenceError
from ..hunyuan_foley_core.places import files_below
from . import folders
from .messages import show, tell
from .sockets import CATEGORY

NOTHING, LIST, DOWNLOAD = "do nothing", "list the files", "download"
STEPS = 1000  # in which a file's progress is shown


class FoleyDownloadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyDownloadModels",
            display_name="Foley Download Models",
            category=CATEGORY,
            is_output_node=True,
            description="Fetches the released weights from Hugging Face to where the loaders look for them. It does nothing "
            "until `action` says so, lists every file with its source, size, licence and destination first, takes up what was "
            "interrupted, and checks each file against the hash that the hub names.",
            inputs=[
                io.Combo.Input(
                    "model", options=list(download.MODELS), default="xxl",
                    tooltip="xxl: the large transformer, 10.3 GB; xl: the smaller one, 5.8 GB; xxl-fp8: the large one, "
                    "converted here to scaled fp8, 7.5 GB. The other five files are the same.",
                ),
                io.Combo.Input(
                    "action", options=[NOTHING, LIST, DOWNLOAD], default=NOTHING,
                    tooltip=f"`{NOTHING}` leaves the network alone; `{LIST}` asks the hub and shows what a download would do; "
                    f"`{DOWNLOAD}` does it. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE count as they did when ComfyUI started.",
                ),
                io.Boolean.Input(
                    "accept_licence", default=False,
                    tooltip="On: you have read the licences that the list names, and accept them. Tencent's does not extend to "
                    "the European Union, the United Kingdom and South Korea. Nothing is downloaded while this is off.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The list of files, or where they are now.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str, action: str, **_):
        """Changes with the model files, so that one that was removed is fetched again."""
        places = [place for places in folders.download_folders().values() for place in places] if action != NOTHING else []
        found = (path for place in places for path in files_below(place) if path.is_file())
        return sorted((str(path), path.stat().st_size) for path in found)

    @classmethod
    def execute(cls, model: str, action: str, accept_licence: bool) -> io.NodeOutput:
        node_id, report = cls.hidden.unique_id, f"Nothing was done: `action` is `{NOTHING}`."
        if action != NOTHING:
            report = _run(node_id, model, action, accept_licence)
        return io.NodeOutput(report, ui=tell(node_id, [report]))


def _run(node_id: str, model: str, action: str, accepted: bool) -> str:
    hub = download.Hub()
    plan = download.make_plan(hub, model, folders.download_folders())
    show(node_id, plan.listing())
    if action == LIST:
        return plan.listing()
    if not accepted:
        raise LicenceError(
            f"The licences have not been accepted, so nothing was downloaded. {' '.join(plan.said_of_licences())}",
            "Expected your consent.", "Read them, and if they suit you, switch on `accept_licence` and queue the node again.",
        )
    paths = download.carry_out(plan, hub, _Progress(node_id))
    return "\n".join(["All files are here and whole; press R and choose them in the loaders:", *map(str, paths)])


class _Progress:
    """Shows what is done, in a line of text and a bar; raises when the user cancels."""

    def __init__(self, node_id: str):
        self.node_id, self.shown = node_id, None

    def __call__(self, stage: str, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        step = STEPS * done // total if total else STEPS
        if (stage, step) != self.shown:
            self.shown = stage, step
            text = f"{stage}: {download.in_gigabytes(done)} of {download.in_gigabytes(total)}."
            show(self.node_id, text[0].upper() + text[1:])
            comfy.utils.ProgressBar(STEPS).update_absolute(step, STEPS)

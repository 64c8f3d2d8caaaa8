"""The ComfyUI nodes of this pack.

Importing this runs nothing of ComfyUI or torch: the modules behind it need a ComfyUI whose command line has been read,
which is only certain once it calls `comfy_entrypoint`.
"""


async def comfy_entrypoint():
    from .extension import FoleyExtension
    from .folders import register_foley_folder

    register_foley_folder()
    return FoleyExtension()

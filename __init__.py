"""HunyuanVideo-Foley for ComfyUI. Outside a package (pytest at the root) there is nothing to load."""

if __package__:
    from .nodes import comfy_entrypoint as comfy_entrypoint

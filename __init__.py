"""HunyuanVideo-Foley for ComfyUI. Outside a package (pytest at the root) there is nothing to load."""

WEB_DIRECTORY = "web"  # help pages of the nodes, and what keeps their translations on the page

if __package__:
    from .nodes import comfy_entrypoint as comfy_entrypoint

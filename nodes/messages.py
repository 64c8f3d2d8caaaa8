"""Telling the user what went only half right, on the node."""


def show(node_id: str, text: str) -> None:
    """Shows a text on the node while it runs."""
    from server import PromptServer  # here, so that the nodes can be imported where ComfyUI does not serve

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(text, node_id)


def tell(node_id: str, messages: list[str]) -> dict | None:
    """Shows the messages on the node while it runs; the result is its `ui` entry, which the history keeps."""
    if not messages:
        return None
    show(node_id, " ".join(messages))
    return {"text": list(messages)}

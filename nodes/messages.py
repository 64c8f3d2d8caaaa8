"""Telling the user what went only half right, on the node."""

from server import PromptServer


def tell(node_id: str, messages: list[str]) -> dict | None:
    """Shows the messages on the node while it runs; the result is its `ui` entry, which the history keeps."""
    if not messages:
        return None
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(" ".join(messages), node_id)
    return {"text": list(messages)}

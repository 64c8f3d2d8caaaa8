"""The server that the other tests run on: it must notice what it is used to check."""

import pytest
from comfy_server import ComfyServer, PromptRejected, ServerError

PICTURE = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "picture"}}


def test_runs_a_graph_and_gives_its_files(server):
    result = server.run({"1": PICTURE, "2": SAVE})
    assert result.status == "success"
    (file,) = result.files(server.base)
    assert file.is_file() and file.parent == server.base / "output"


def test_reports_the_error_of_a_node(server):
    missing = {"class_type": "LoadImage", "inputs": {"image": "1"}}
    (server.base / "input" / "1").write_text("no picture")
    result = server.run({"1": missing, "2": SAVE})
    assert result.status == "error"
    assert result.error["node_type"] == "LoadImage"
    assert "cannot identify image file" in result.message or "Invalid data found" in result.message  # 0.3 or 0.29


def test_refuses_an_invalid_graph(server):
    with pytest.raises(PromptRejected, match="EmptyImage"):
        server.run({"1": {**PICTURE, "inputs": {**PICTURE["inputs"], "width": -1}}, "2": SAVE})


def test_a_server_that_dies_shows_its_log(comfyui, tmp_path):
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-flag"):
        ComfyServer(comfyui, tmp_path, arguments=("--no-such-flag",)).start()


def test_keeps_its_files_under_its_base(server):
    for kept in ("user/comfyui.db", "server.log", "custom_nodes/foley/nodes/__init__.py"):
        assert (server.base / kept).is_file()

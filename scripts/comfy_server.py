"""A real ComfyUI server as a context manager, driven over HTTP and its websocket.

Runs in a Python that has ComfyUI's packages (aiohttp among them).
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
PACK_NAME = "foley"
NOT_THE_PACK = (".*", "__pycache__", "output", "tests")
FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")  # ComfyUI expects them, some only later
START_SECONDS = 300.0  # a cold disk and a slow machine; a working one needs about ten
LOG_LINES = 40
FREEING_SECONDS = 1.0

Graph = dict[str, dict[str, Any]]


class ServerError(Exception):
    """The server did not start, died, or refused a request."""


class PromptRejected(ServerError):
    """ComfyUI did not accept a graph.

    Attributes:
        details: its answer, with `error` and `node_errors`.
    """

    def __init__(self, details: dict[str, Any]):
        self.details = details
        super().__init__(f"ComfyUI rejected the prompt: {json.dumps(details)[:2000]}")


@dataclass(frozen=True)
class PromptResult:
    """How a queued graph ended.

    Attributes:
        status: "success", "error" or "interrupted".
        outputs: node id to what it put out (files, texts), as in /history.
        error: for "error", ComfyUI's record: node_id, node_type, exception_type, exception_message, traceback.
        events: the websocket messages of this prompt, oldest first, each {"type", "data"}.
    """

    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def message(self) -> str:
        """What a user would read on the node that failed; empty where none did."""
        if self.error is None:
            return ""
        return self.error["exception_message"].strip() or self.error["exception_type"]

    def files(self, base: Path) -> list[Path]:
        """Every file the graph saved, with `base` the server's base directory."""
        entries = (
            entry
            for output in self.outputs.values()
            for value in output.values() if isinstance(value, list)
            for entry in value if isinstance(entry, dict) and "filename" in entry
        )
        return [base / entry["type"] / entry.get("subfolder", "") / entry["filename"] for entry in entries]


def install_pack(base: Path, name: str = PACK_NAME) -> Path:
    """Copies this repository, as a user would have it, to `base`/custom_nodes/`name` and returns that folder.

    A copy and not a link: ComfyUI and the tools around it take a link's target for the pack's name.
    """
    target = base / "custom_nodes" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_THE_PACK))
    return target


class ComfyServer:
    """ComfyUI in a process of its own, with models, inputs and outputs under a base directory.

    Args:
        comfyui: folder with ComfyUI's main.py; nothing is written there.
        base: base directory, made if missing; `install_pack` and model files go there before the start.
        python: interpreter with ComfyUI's packages.
        cpu: compute on the CPU even where there is a GPU.
        arguments: more of ComfyUI's command line.
        threads: of torch; None leaves it the choice. Small networks gain nothing from a second one, and where the
            cores are shared they wait for it.
    """

    def __init__(
        self, comfyui: Path, base: Path, python=sys.executable, cpu=True,
        arguments: tuple[str, ...] = (), threads: int | None = None,
    ):
        self.comfyui, self.base, self.python = Path(comfyui), Path(base).resolve(), str(python)
        self.arguments = [*(["--cpu"] if cpu else []), *arguments]
        self.threads = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self.log = self.base / "server.log"
        self.client_id = uuid.uuid4().hex
        self.process: subprocess.Popen | None = None
        self.port = 0
        self._events: list[dict[str, Any]] = []
        self._news = threading.Condition()

    def __enter__(self) -> "ComfyServer":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server and returns when it answers.

        Raises:
            ServerError: it ended or did not answer in time; the message has the end of its log.
        """
        for folder in FOLDERS:
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        try:
            self._launch()
            self._await_answer()
            threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True).start()
            self._await(lambda: bool(self._events), 60.0)  # the first message says that we are registered
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the process; does nothing where none runs."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        """The JSON at `path`, e.g. `/system_stats`."""
        return self._request(path)

    def post(self, path: str, payload: dict[str, Any]) -> Any:
        """Posts JSON and returns the JSON of the answer (None for an empty one)."""
        return self._request(path, json.dumps(payload).encode())

    def object_info(self, node: str = "") -> dict[str, Any]:
        return self.get(f"/object_info/{node}" if node else "/object_info")

    def add_input(self, source: Path, name: str | None = None) -> str:
        """Copies a file to the input folder and returns the name that loader nodes know it by."""
        name = name or Path(source).name
        shutil.copyfile(source, self.base / "input" / name)
        return name

    def queue(self, graph: Graph, **extra_data: Any) -> str:
        """Queues a graph in API format and returns its prompt id.

        Raises:
            PromptRejected: ComfyUI found it invalid.
        """
        payload = {"prompt": graph, "client_id": self.client_id, "extra_data": extra_data}
        return self.post("/prompt", payload)["prompt_id"]

    def wait(
        self, prompt_id: str, timeout: float = 600.0, on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> PromptResult:
        """Waits for a prompt to end; `on_event` sees each of its websocket messages as they come.

        Raises:
            ServerError: the server died, or `timeout` seconds passed.
        """
        deadline, seen = time.monotonic() + timeout, 0
        while True:
            news = self._events_after(seen, deadline - time.monotonic())
            seen += len(news)
            for event in news:
                if on_event and _is_of(event, prompt_id):
                    on_event(event)
            if any(_is_of(event, prompt_id) and _is_end(event) for event in news):
                return self._result(prompt_id)

    def run(self, graph: Graph, timeout: float = 600.0) -> PromptResult:
        """Queues a graph and waits for its end, whatever that is."""
        return self.wait(self.queue(graph), timeout)

    def wait_for(
        self, prompt_id: str, condition: Callable[[dict[str, Any]], bool], timeout: float = 120.0
    ) -> dict[str, Any]:
        """The first message of a prompt that meets `condition`, e.g. a node's first progress before an interrupt."""
        def first():
            return next((event for event in self.events(prompt_id) if condition(event)), None)

        self._await(lambda: first() is not None, timeout)
        return first()

    def events(self, prompt_id: str) -> list[dict[str, Any]]:
        """The websocket messages of one prompt so far."""
        with self._news:
            return [event for event in self._events if _is_of(event, prompt_id)]

    def history(self, prompt_id: str) -> dict[str, Any]:
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def interrupt(self) -> None:
        """Cancels what runs now."""
        self.post("/interrupt", {})

    def free(self) -> None:
        """Lets ComfyUI unload its models and forget its cached results.

        It does so when its worker next wakes up, and does not tell; a prompt that comes before that would still be cached.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(FREEING_SECONDS)

    def log_tail(self, lines: int = LOG_LINES) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _launch(self) -> None:
        self.port = _free_port()
        # 0.29 writes a log of its own to the working directory, so that is the base.
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    self.python, str(self.comfyui / "main.py"), "--port", str(self.port), "--disable-auto-launch",
                    "--disable-api-nodes", "--base-directory", str(self.base),
                    "--database-url", f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}", *self.arguments,
                ],
                cwd=self.base, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **self.threads, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/system_stats")
                return
            except OSError:
                self._check_alive()
            if time.monotonic() > deadline:
                raise ServerError(f"ComfyUI did not answer within {START_SECONDS:.0f} s.\n{self.log_tail()}")
            time.sleep(0.2)

    async def _listen(self) -> None:
        """Collects the websocket's text messages until the server closes it."""
        address = f"{self.url}/ws?clientId={self.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket_:
            async for message in socket_:
                if message.type == aiohttp.WSMsgType.TEXT:
                    with self._news:
                        self._events.append(json.loads(message.data))
                        self._news.notify_all()

    def _events_after(self, seen: int, timeout: float) -> list[dict[str, Any]]:
        """The messages after the first `seen`, at least one."""
        self._await(lambda: len(self._events) > seen, timeout)
        with self._news:
            return self._events[seen:]

    def _await(self, condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._news:
            while not self._news.wait_for(condition, timeout=1.0):
                self._check_alive()
                if time.monotonic() > deadline:
                    raise ServerError(f"ComfyUI did not get there within {timeout:.0f} s.\n{self.log_tail()}")

    def _check_alive(self) -> None:
        if self.process is None or self.process.poll() is not None:
            code = None if self.process is None else self.process.returncode
            raise ServerError(f"ComfyUI ended with exit status {code}; the end of {self.log}:\n{self.log_tail()}")

    def _result(self, prompt_id: str) -> PromptResult:
        events = self.events(prompt_id)
        ends = {event["type"]: event["data"] for event in events if event["type"].startswith("execution_")}
        outputs = self.history(prompt_id).get("outputs", {})
        if "execution_error" in ends:
            return PromptResult("error", outputs, ends["execution_error"], events)
        return PromptResult("interrupted" if "execution_interrupted" in ends else "success", outputs, None, events)

    def _request(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "application/json"})
        try:
            with _direct.open(request, timeout=60) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            raise _refusal(path, error) from error
        return json.loads(content) if content else None


# The server is on this machine: a proxy from the environment must not see its requests.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _refusal(path: str, error: urllib.error.HTTPError) -> ServerError:
    content = error.read().decode(errors="replace")
    if path == "/prompt" and error.code == 400:
        return PromptRejected(json.loads(content))
    return ServerError(f"{path} answered {error.code}: {content[:500]}")


def _is_of(event: dict[str, Any], prompt_id: str) -> bool:
    return event.get("data", {}).get("prompt_id") == prompt_id


def _is_end(event: dict[str, Any]) -> bool:
    # Sent after the history has been written, whether the prompt succeeded, failed or was cancelled.
    return event["type"] == "executing" and event["data"].get("node") is None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""A hub on this machine: what huggingface_hub and our downloads ask of huggingface.co, and its faults on demand.

Two servers, as there: one describes repositories and sends whoever asks for a file on to the other, which has the bytes.
"""

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Faults:
    """What goes wrong, by file name where it says so.

    Attributes:
        drops: after how many bytes each of the next answers ends, a list for each file.
        answers: HTTP statuses of the next answers for a file.
        changed: bytes to send in place of the right ones.
        no_ranges: whether a part is answered with everything.
        refuses: status of every answer without the token, None for an open hub.
        held: bytes after which answers wait for `go_on`.
    """

    drops: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    changed: dict[str, bytes] = field(default_factory=dict)
    no_ranges: bool = False
    refuses: int | None = None
    held: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


class HubServer:
    """Serves `repositories` {name: {file: bytes}} until closed. Files of more than `small` bytes are kept as the hub keeps
    large ones, by SHA-256.
    """

    token = "hf_right"
    card = {"license": "other", "license_name": "community", "license_link": "LICENSE.txt"}

    def __init__(self, repositories: dict[str, dict[str, bytes]], small: int = 100):
        self.repositories, self.small, self.faults = repositories, small, Faults()
        self.asked: Counter = Counter()  # (method, path) on both servers
        self.tokens: dict[str, set] = {"hub": set(), "bytes": set()}  # what was sent to each
        self.ranges: list[str] = []
        self.sent: Counter = Counter()  # bytes by file
        self._hub, self._bytes = (_serve(self, handler) for handler in (_Hub, _Bytes))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def bytes_at(self) -> str:
        return f"http://localhost:{self._bytes.server_port}"

    def digest(self, repository: str, name: str) -> str:
        return hashlib.sha256(self.repositories[repository][name]).hexdigest()

    def close(self) -> None:
        self.faults.go_on.set()
        for server in (self._hub, self._bytes):
            server.shutdown()
            server.server_close()

    def __enter__(self) -> "HubServer":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _serve(hub: HubServer, handler: type) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def note(self, server: str) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked[self.command, path] += 1
        self.hub.tokens[server].add(self.headers.get("Authorization"))
        return path

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Hub(_Handler):
    def do_GET(self) -> None:
        path, hub = self.note("hub"), self.hub
        if hub.faults.refuses and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(hub.faults.refuses, {"X-Error-Message": "Access is restricted."})
        if path.startswith("/api/models/"):
            return self.describe(path.removeprefix("/api/models/").partition("/revision/")[0])
        owner, repository, verb, _, name = path.removeprefix("/").split("/", 4)
        content = hub.repositories.get(f"{owner}/{repository}", {}).get(name)
        if content is None or verb != "resolve":
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        self.answer(302, {
            "Location": f"{hub.bytes_at}/{owner}/{repository}/{name}", "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{_etag(content, hub.small)}"',
        })

    def describe(self, name: str) -> None:
        files = self.hub.repositories.get(name)
        if files is None:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        siblings = [_sibling(file, content, self.hub.small) for file, content in files.items()]
        said = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "cardData": self.hub.card, "tags": []}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(said).encode())


class _Bytes(_Handler):
    def do_GET(self) -> None:
        owner, repository, name = self.note("bytes").removeprefix("/").split("/", 2)
        hub, faults = self.hub, self.hub.faults
        content = faults.changed.get(name, hub.repositories[f"{owner}/{repository}"][name])
        if faults.answers.get(name):
            return self.answer(faults.answers[name].pop(0))
        self.hub.ranges.append(self.headers.get("Range"))
        start = 0 if faults.no_ranges else int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        part = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self.send_response(206 if start else 200)
        for header, value in {"Content-Length": str(len(content) - start), "ETag": '"x"', **part}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.send(name, content[start:])

    def send(self, name: str, content: bytes) -> None:
        faults = self.hub.faults
        if faults.held is not None and len(content) > faults.held:
            self.wfile.write(content[: faults.held])
            faults.reached.set()
            faults.go_on.wait(30)
            content = content[faults.held:]
        drops = faults.drops.get(name)
        sent = content[: drops.pop(0)] if drops else content
        self.hub.sent[name] += len(sent)
        self.wfile.write(sent)
        if len(sent) < len(content):
            self.close_connection = True


def _etag(content: bytes, small: int) -> str:
    if len(content) > small:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sibling(name: str, content: bytes, small: int) -> dict:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"rfilename": name, "size": len(content), "blobId": blob}
    if len(content) > small:
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry

"""Downloads from a hub on this machine, with everything that goes wrong on the way to the real one."""

import errno
import hashlib
import importlib.util
import io
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from hunyuan_foley_core import cli, download, places
from hunyuan_foley_core.download import connection, plan, released, transfer
from hunyuan_foley_core.errors import (
    DownloadError,
    LicenceError,
    MissingPackageError,
    NoAccessError,
    NoRoomError,
    NotOnHubError,
    UnreachableError,
    UnwritableError,
    WrongHashError,
)
from hunyuan_foley_core.pipeline import find_model_files
from scripts import small_weights
from tests.hub_server import COMMIT, HubServer

ROOT = Path(__file__).parent.parent.parent
SIGLIP2 = "google/siglip2-base-patch16-512"
TRANSFORMER, VAE = "hunyuanvideo_foley.pth", "vae_128d_48k.pth"
PLACES = {
    "diffusion_models/hunyuanvideo_foley.pth": (released.TENCENT, TRANSFORMER),
    "vae/vae_128d_48k.pth": (released.TENCENT, VAE),
    "foley/synchformer_state_dict.pth": (released.TENCENT, "synchformer_state_dict.pth"),
    "clip_vision/siglip2_base_patch16_512.safetensors": (SIGLIP2, "model.safetensors"),
    "text_encoders/larger_clap_general.safetensors": (released.CLAP, "model.safetensors"),
    "text_encoders/tokenizer.json": (released.CLAP, "tokenizer.json"),
}


def repositories() -> dict[str, dict[str, bytes]]:
    """Bytes under the names of the released files; the tokenizer is so small that git keeps it."""
    said, content = {}, random.Random(0).randbytes
    for size, (repository, name) in zip((300_000, 200_000, 150_000, 100_001, 80_000, 60), PLACES.values()):
        said.setdefault(repository, {})[name] = content(size)
    said[released.TENCENT]["hunyuanvideo_foley_xl.pth"] = content(50_000)
    return said


@pytest.fixture
def server():
    with HubServer(repositories()) as server:
        yield server


@pytest.fixture
def hub(server, require, monkeypatch, tmp_path):
    """Our side of it, as if the environment named this server and an empty cache."""
    require(importlib.util.find_spec("huggingface_hub"), "huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", server.token)
    monkeypatch.setenv("no_proxy", "*")  # it is on this machine
    return download.Hub()


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def planned(hub, models, model="xxl"):
    return download.make_plan(hub, model, places.model_folders(models))


def bring(hub, models, model="xxl", progress=lambda *_: None):
    return download.carry_out(planned(hub, models, model), hub, progress, pause=lambda _: None)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def parts(models: Path) -> list[Path]:
    return sorted(models.rglob("*.part"))


# What is brought


def test_all_files_arrive_where_they_belong_and_nothing_else(hub, server, models):
    paths = bring(hub, models)
    assert files(models) == set(PLACES) and paths == [models / place for place in PLACES]
    for place, (repository, name) in PLACES.items():
        assert (models / place).read_bytes() == server.repositories[repository][name]


def test_the_list_says_all_before_anything_is_fetched(hub, server, models):
    listing = planned(hub, models, "xl").listing()
    assert not models.exists() and all(path.startswith("/api/models/") for _, path in server.asked)
    assert "hunyuanvideo_foley_xl.pth, 0.05 MB, to be downloaded" in listing and COMMIT[:12] in listing
    assert f"to {models / 'vae/vae_128d_48k.pth'}" in listing and "0.58 MB to download" in listing
    licence = f"other (community), {server.endpoint}/{released.TENCENT}/blob/main/LICENSE.txt."
    assert f"{released.TENCENT}: {licence} This licence does not extend to the European Union" in listing
    assert f"{released.CLAP}: other (community)" in listing


def test_nothing_is_fetched_twice_and_names_do_not_matter(hub, server, models):
    bring(hub, models)
    (models / "vae/vae_128d_48k.pth").rename(models / "foley/codec.pth")
    server.sent.clear()
    assert [item.state for item in planned(hub, models).items] == [plan.THERE] * 6
    assert models / "foley/codec.pth" in bring(hub, models) and not server.sent


def test_the_token_is_shown_to_the_hub_alone(hub, server, models):
    server.faults.refuses = 401
    bring(hub, models)
    assert server.tokens == {"hub": {f"Bearer {server.token}"}, "bytes": {None}}


def test_the_server_is_one_that_huggingface_hub_takes_for_the_hub(hub, server, tmp_path, monkeypatch):
    """Else these tests would prove nothing of the real one."""
    import huggingface_hub

    # `endpoint` replaces the beginning of both, which the library made of HF_ENDPOINT when it was first imported.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://huggingface.co")
    template = "https://huggingface.co/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    ours = hub.repository(released.CLAP, ()).files
    said = huggingface_hub.HfApi(server.endpoint).model_info(released.CLAP, files_metadata=True)
    theirs = {file.rfilename: (file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in said.siblings}
    assert {name: (file.size, file.digest) for name, file in ours.items()} == theirs and said.sha == COMMIT
    for name in ("model.safetensors", "tokenizer.json"):
        path = huggingface_hub.hf_hub_download(
            released.CLAP, name, endpoint=server.endpoint, local_dir=tmp_path, token=server.token
        )
        same = Path(path).read_bytes() == server.repositories[released.CLAP][name]
        assert same, name  # pytest would take minutes to show how so many bytes differ


def test_single_networks_can_be_asked_for(command, models):
    assert command("--accept-licence", "--only", "vae", "tokenizer")[0] == 0
    assert files(models) == {"vae/vae_128d_48k.pth", "text_encoders/tokenizer.json"}


# What goes wrong on the way


def test_a_connection_that_drops_costs_no_byte_twice(hub, server, models):
    server.faults.drops[TRANSFORMER] = [100_000, 0, 1, 0, 60_000]
    bring(hub, models)
    assert files(models) == set(PLACES) and server.sent[TRANSFORMER] == 300_000
    assert [said for said in server.ranges[:6]] == [
        None, "bytes=100000-", "bytes=100000-", "bytes=100001-", "bytes=100001-", "bytes=160001-"
    ]


def test_a_connection_that_falls_silent_is_made_anew(hub, server, models, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    server.faults.held = 120_000
    bring(hub, models)
    assert (models / "diffusion_models" / TRANSFORMER).read_bytes() == server.repositories[released.TENCENT][TRANSFORMER]
    assert server.ranges[:3] == [None, "bytes=120000-", "bytes=240000-"]


def test_after_giving_up_it_goes_on_from_there(hub, server, models):
    server.faults.drops[TRANSFORMER] = [123_456] + [0] * 10
    with pytest.raises(UnreachableError, match="Run it again"):
        bring(hub, models)
    (part,) = parts(models)
    assert part.stat().st_size == 123_456 and not (models / "diffusion_models" / TRANSFORMER).exists()
    assert "0.71 MB to download" in planned(hub, models).listing()
    server.faults.drops.clear()
    bring(hub, models)
    assert files(models) == set(PLACES) and server.sent[TRANSFORMER] == 300_000


def test_a_server_that_knows_no_ranges_is_read_from_the_start(hub, server, models):
    server.faults.drops[TRANSFORMER], server.faults.no_ranges = [100_000], True
    bring(hub, models)
    assert (models / "diffusion_models" / TRANSFORMER).read_bytes() == server.repositories[released.TENCENT][TRANSFORMER]


def test_a_busy_server_is_asked_again(hub, server, models):
    server.faults.answers[VAE] = [503, 429, 500]
    waits = []
    download.carry_out(planned(hub, models), hub, lambda *_: None, waits.append)
    assert files(models) == set(PLACES) and waits == [1, 2, 4]


REFUSALS = [(401, NoAccessError), (403, NoAccessError), (404, NotOnHubError), (400, DownloadError)]


@pytest.mark.parametrize("status, kind", REFUSALS)
def test_a_refusal_of_the_bytes_is_no_reason_to_try_again(hub, server, models, status, kind):
    server.faults.answers[VAE] = [status]
    with pytest.raises(kind, match=f"{status}.*{VAE}") as caught:
        bring(hub, models)
    assert type(caught.value) is kind and server.asked["GET", f"/{released.TENCENT}/{VAE}"] == 1


def test_without_the_right_token_the_hub_says_no(hub, server, models, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    server.faults.refuses = 401
    with pytest.raises(NoAccessError, match="HF_TOKEN"):
        planned(hub, models)


def test_what_the_hub_does_not_have_is_named(hub, server, models):
    del server.repositories[released.CLAP]["tokenizer.json"]
    with pytest.raises(NotOnHubError, match="no tokenizer.json; it has model.safetensors"):
        planned(hub, models)
    server.repositories[released.CLAP] |= {"tokenizer.json": b"{}", "pytorch_model.bin": b"old"}
    del server.repositories[released.CLAP]["model.safetensors"]
    assert planned(hub, models).items[4].target == models / "text_encoders/larger_clap_general.bin"
    del server.repositories[SIGLIP2]
    with pytest.raises(NotOnHubError, match=f"404.*{SIGLIP2}"):
        planned(hub, models)


def test_nobody_at_the_address(hub, server, models):
    hub.endpoint = "http://127.0.0.1:9"
    with pytest.raises(UnreachableError, match="127.0.0.1:9 cannot be reached"):
        planned(hub, models)


def test_a_page_that_is_no_hub(hub, server, models):
    hub.endpoint = f"{server.bytes_at}/{released.CLAP}/tokenizer.json?"  # answers whatever is asked
    with pytest.raises(DownloadError, match="not what a hub answers"):
        planned(hub, models)


@pytest.mark.parametrize("changed", [b"\0" * 200_000, b"short"], ids=["other bytes", "shorter"])
def test_what_is_not_the_file_on_the_hub_is_not_kept(hub, server, models, changed):
    server.faults.changed[VAE] = changed
    with pytest.raises(WrongHashError if len(changed) == 200_000 else UnreachableError):
        bring(hub, models)
    assert not (models / "vae" / VAE).exists()
    assert [part.name for part in parts(models) if part.stat().st_size == 200_000] == []


def test_after_a_wrong_hash_the_right_file_can_come(hub, server, models):
    server.faults.changed[VAE] = b"\0" * 200_000
    with pytest.raises(WrongHashError, match="another hash than the"):
        bring(hub, models)
    server.faults.changed.clear()
    bring(hub, models)
    assert (models / "vae" / VAE).read_bytes() == server.repositories[released.TENCENT][VAE]


# The disk


class Full(io.RawIOBase):
    """A file on a disk that has so many bytes left."""

    def __init__(self, file, room: int):
        self.file, self.room = file, room

    def write(self, block) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(block[: self.room])
        self.room -= written
        return written

    def close(self) -> None:
        self.file.close()
        super().close()


def test_a_disk_that_fills_up_keeps_what_arrived(hub, server, models, monkeypatch):
    open_part = transfer._writable
    monkeypatch.setattr(transfer, "_writable", lambda part, have: Full(open_part(part, have), 70_000))
    with pytest.raises(NoRoomError, match="filled up.*goes on from there"):
        bring(hub, models)
    (part,) = parts(models)
    assert part.stat().st_size == 70_000
    monkeypatch.undo()
    assert part.read_bytes() == server.repositories[released.TENCENT][TRANSFORMER][:70_000]


def test_too_little_room_is_said_before_anything_is_fetched(hub, server, models, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10**9, 10**9, 830_060))
    with pytest.raises(NoRoomError, match="0.83 MB free, and the files take 0.83 MB"):
        bring(hub, models)
    assert not models.exists() and not server.sent
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10**9, 10**9, 830_061))
    bring(hub, models)


def test_a_folder_that_cannot_be_made(hub, models):
    models.mkdir()
    (models / "diffusion_models").write_text("a file")
    with pytest.raises(UnwritableError, match="diffusion_models"):
        bring(hub, models)


@pytest.mark.parametrize("there, reason", [(b"mine", "4 bytes, not 200,000"), (b"\0" * 200_000, "another hash")])
def test_files_of_the_user_are_never_overwritten(hub, models, there, reason):
    (models / "vae").mkdir(parents=True)
    (models / "vae" / VAE).write_bytes(there)
    with pytest.raises(DownloadError, match=reason):
        bring(hub, models)
    assert (models / "vae" / VAE).read_bytes() == there


def test_a_file_of_the_same_size_elsewhere_is_not_taken_for_it(hub, models):
    (models / "vae").mkdir(parents=True)
    (models / "vae" / "other.pth").write_bytes(b"\0" * 200_000)
    bring(hub, models)
    assert files(models) == {*PLACES, "vae/other.pth"}


# Stopping, and others at the same time


def test_a_stop_keeps_what_arrived(hub, server, models):
    def stop(stage, done, total):
        if stage == f"downloading {VAE}":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(hub, models, progress=stop)
    assert files(models) >= {"diffusion_models/hunyuanvideo_foley.pth"} and len(parts(models)) == 1
    bring(hub, models)
    assert files(models) == set(PLACES)


def test_progress_tells_bytes_of_each_file(hub, models):
    told = []
    bring(hub, models, progress=lambda *step: told.append(step))
    assert (f"downloading {TRANSFORMER}", 300_000, 300_000) in told and (f"checking {VAE}", 200_000, 200_000) in told


def test_two_downloads_at_once_fetch_each_file_once(hub, server, models):
    server.faults.held = 50_000
    results, waiting = [], threading.Event()

    def other():
        def progress(stage, done, total):
            if stage.startswith("waiting"):
                waiting.set()

        server.faults.reached.wait(20)  # the first is in the middle of a file
        results.append(bring(hub, models, progress=progress))

    first = threading.Thread(target=lambda: results.append(bring(hub, models)))
    second = threading.Thread(target=other)
    first.start(), second.start()
    assert waiting.wait(20)
    server.faults.go_on.set()
    first.join(20), second.join(20)
    assert len(results) == 2 and results[0] == results[1]
    assert all(server.asked["GET", f"/{repository}/{name}"] == 1 for repository, name in PLACES.values())
    assert files(models) == set(PLACES)


# What is on this machine already


def cache(server, folder: Path, repository: str, name: str) -> Path:
    """Puts a file where huggingface_hub keeps it, and says where."""
    store = folder / f"models--{repository.replace('/', '--')}"
    blob = store / "blobs" / server.digest(repository, name)
    snapshot = store / "snapshots" / COMMIT / name
    for path in (blob, snapshot, store / "refs/main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(server.repositories[repository][name])
    snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
    (store / "refs/main").write_text(COMMIT)
    return blob


def test_the_cache_of_huggingface_is_used(hub, server, models, tmp_path):
    blob = cache(server, tmp_path / "cache", released.TENCENT, TRANSFORMER)
    assert f"{TRANSFORMER}, 0.30 MB, is in the cache" in planned(hub, models).listing()
    bring(hub, models)
    assert files(models) == set(PLACES) and not server.sent[TRANSFORMER]
    assert (models / "diffusion_models" / TRANSFORMER).samefile(blob)  # no second copy on one disk


def test_a_damaged_file_in_the_cache_is_not(hub, server, models, tmp_path):
    blob = cache(server, tmp_path / "cache", released.TENCENT, VAE)
    blob.write_bytes(b"\0" * 200_000)
    bring(hub, models)
    assert (models / "vae" / VAE).read_bytes() == server.repositories[released.TENCENT][VAE]


def test_offline_only_the_cache_counts(hub, server, models, tmp_path):
    hub.offline = True
    for repository, name in list(PLACES.values())[:-2]:
        cache(server, tmp_path / "cache", repository, name)
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE is set, and the cache has no model.safetensors or pytorch"):
        planned(hub, models)
    for name in ("model.safetensors", "tokenizer.json"):
        cache(server, tmp_path / "cache", released.CLAP, name)
    bring(hub, models)
    assert files(models) == set(PLACES) and not server.asked


def test_offline_a_damaged_cache_is_said(hub, server, models, tmp_path):
    hub.offline = True
    for repository, name in PLACES.values():
        cache(server, tmp_path / "cache", repository, name).write_bytes(b"\0" * len(server.repositories[repository][name]))
    with pytest.raises(WrongHashError, match="Unset HF_HUB_OFFLINE"):
        bring(hub, models)
    assert not files(models) - {"diffusion_models/.hunyuanvideo_foley.pth.lock"}


# fp8


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Small weights that convert, as a hub has them."""
    folder = tmp_path_factory.mktemp("released")
    small_weights.write(folder)
    said = {}
    for place, (repository, name) in PLACES.items():
        said.setdefault(repository, {})[name] = (folder / place).read_bytes()
    return said


def test_fp8_is_made_here_of_the_released_file(hub, server, models, real):
    server.repositories = real
    assert "converted to fp8_e4m3fn_scaled here, the original not kept" in planned(hub, models, "xxl-fp8").listing()
    bring(hub, models, "xxl-fp8")
    made = "diffusion_models/hunyuanvideo_foley_fp8_e4m3fn_scaled.safetensors"
    assert files(models) == {*PLACES, made} - {"diffusion_models/hunyuanvideo_foley.pth"}
    assert find_model_files(models).transformer == models / made
    server.sent.clear()
    before = (models / made).stat().st_mtime_ns
    bring(hub, models, "xxl-fp8")
    assert not server.sent and (models / made).stat().st_mtime_ns == before


def test_fp8_that_was_stopped_goes_on_from_the_file_that_arrived(hub, server, models, real):
    server.repositories = real

    def stop(stage, *_):
        if stage.startswith("converting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(hub, models, "xxl-fp8", progress=stop)
    assert planned(hub, models, "xxl").items[0].state == plan.TO_FETCH  # the half-way file is nobody's
    server.sent.clear()
    bring(hub, models, "xxl-fp8")
    assert not server.sent[TRANSFORMER] and not (models / "diffusion_models/.foley_download").exists()


def test_fp8_of_a_file_that_is_there_keeps_it(hub, server, models, real):
    server.repositories = real
    bring(hub, models)
    server.sent.clear()
    bring(hub, models, "xxl-fp8")
    assert (models / "diffusion_models" / TRANSFORMER).is_file() and not server.sent


# The command


@pytest.fixture
def command(hub, models, capsys):
    def run(*more) -> tuple[int, str, str]:
        status = cli.main(["download", "--to", str(models), *more])
        return status, *capsys.readouterr()

    return run


def test_nothing_is_fetched_before_the_licences_are_accepted(command, server, models):
    status, out, error = command()
    assert status == 1 and not models.exists() and not server.sent
    assert released.NOTES[released.TENCENT] in out and "--accept-licence" in error and LicenceError.link() in error


def test_with_the_licences_accepted_it_runs(command, models):
    status, out, _ = command("--accept-licence")
    assert status == 0 and files(models) == set(PLACES) and str(models / "vae" / VAE) in out.splitlines()


@pytest.mark.parametrize("answer, status", [("yes\n", 0), ("\n", 1), ("no\n", 1), ("", 1)])
def test_at_a_terminal_it_asks(command, models, monkeypatch, answer, status):
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    result, out, _ = command()
    assert result == status and "Type yes" in out and models.exists() == (not status)


def test_outside_of_a_comfyui_the_folder_has_to_be_named(hub, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "comfyui_around", lambda: None)
    assert cli.main(["download"]) == 1
    assert "Name ComfyUI's folder `models` with --to" in capsys.readouterr().err
    monkeypatch.setattr(places, "comfyui_around", lambda: tmp_path)
    assert cli.main(["download"]) == 1
    assert str(tmp_path / "models" / "vae") in capsys.readouterr().out


def test_without_huggingface_hub_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="pip install huggingface_hub"):
        download.Hub()


@pytest.mark.parametrize("endpoint, whole", [
    ("hf-mirror.com", "hf-mirror.com"), ("hf-mirror.com:80/x", "hf-mirror.com:80/x"), ("", "huggingface.co"),
])
def test_an_endpoint_without_its_scheme_is_said(hub, monkeypatch, endpoint, whole):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(DownloadError) as caught:
        download.Hub()
    assert caught.value.found == f"HF_ENDPOINT is '{endpoint}'." and f"https://{whole}," in caught.value.remedy
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    download.Hub()


def test_the_environment_is_honoured(server, require, tmp_path):
    """HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE, in a process of its own."""
    require(importlib.util.find_spec("huggingface_hub"), "huggingface_hub")
    server.faults.refuses = 401
    for repository, name in PLACES.values():
        cache(server, tmp_path / "home/hub", repository, name)
    settings = {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": server.token, "HF_HOME": str(tmp_path / "home"), "no_proxy": "*"}

    def run(models, **more):
        command = [sys.executable, "-m", "hunyuan_foley_core", "download", "--to", str(models), "--accept-licence"]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **settings, **more}, capture_output=True, text=True)

    offline = run(tmp_path / "a", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and files(tmp_path / "a") == set(PLACES) and not server.asked, offline.stderr
    shutil.rmtree(tmp_path / "home/hub" / f"models--{released.CLAP.replace('/', '--')}")
    online = run(tmp_path / "b")
    assert online.returncode == 0 and files(tmp_path / "b") == set(PLACES), online.stderr
    assert server.tokens["hub"] == {f"Bearer {server.token}"}
    assert dict(server.sent) == {"model.safetensors": 80_000, "tokenizer.json": 60}  # the rest was in the cache


def test_certificates_are_found_where_python_has_none(monkeypatch):
    certifi = pytest.importorskip("certifi")
    import ssl

    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert connection._certificates().cert_store_stats()["x509_ca"] > 100
    assert hashlib.sha256(Path(certifi.where()).read_bytes())

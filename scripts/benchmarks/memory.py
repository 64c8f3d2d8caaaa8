"""Peak memory of encoding a video and of decoding sound, each in a process of its own."""

import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np
import torch

from hunyuan_foley_core.conditions import encode_video
from hunyuan_foley_core.encoders.siglip2 import SigLIP2VisionTower
from hunyuan_foley_core.encoders.synchformer import SynchformerVisualTower
from hunyuan_foley_core.media import stream_frames
from hunyuan_foley_core.timing import latent_frames
from hunyuan_foley_core.vae.dac import DACVAE
from hunyuan_foley_core.whole_files import whole

from .sizes import Sizes, random_network

MB = 1e6
CLIP_RATE = 30


def measure_encoding(sizes: Sizes, threads: int, progress: Callable[[str], None]) -> dict:
    """Peak memory above the models' own while a clip becomes features, from the file on."""
    progress("making the clip")
    clip = make_clip(sizes.clip_size, sizes.clip_seconds)
    progress("encoding")
    width, height = sizes.clip_size
    clip_floats = width * height * 3 * sizes.clip_seconds * CLIP_RATE
    return {
        "clip": f"{sizes.clip_seconds} s of {width}x{height} at {CLIP_RATE} fps",
        "clip_in_float32_mb": clip_floats * 4 / MB,
        **in_own_process(_encode, sizes, clip, threads),
    }


def measure_decoding(sizes: Sizes, threads: int, progress: Callable[[str], None]) -> dict:
    """Peak memory above the model's own while latents become sound, over the length of the sound."""
    runs = []
    for seconds in sizes.decode_seconds:
        progress(f"decoding {seconds} s")
        runs.append({"sound_seconds": seconds, **in_own_process(_decode, sizes, seconds, threads)})
    return {"runs": runs, "longest_over_shortest": runs[-1]["peak_mb"] / runs[0]["peak_mb"]}


def make_clip(size: tuple[int, int], seconds: int) -> Path:
    """An H.264 file with B-frames and several reference frames, as cameras write them; made once, then kept."""
    width, height = size
    path = Path(tempfile.gettempdir()) / "foley_bench" / f"{width}x{height}_{CLIP_RATE}fps_{seconds}s.mp4"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with whole(path) as unfinished, av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", CLIP_RATE, options={"preset": "ultrafast", "bf": "2", "refs": "4"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * CLIP_RATE):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 4 * index, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def own_process() -> ProcessPoolExecutor:
    """Runs one thing after the other in one fresh process."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def in_own_process(function: Callable, *arguments):
    with own_process() as pool:
        return pool.submit(function, *arguments).result()


def _encode(sizes: Sizes, clip: Path, threads: int) -> dict:
    torch.set_num_threads(threads)
    siglip2 = random_network(SigLIP2VisionTower, sizes.siglip2)
    synchformer = random_network(SynchformerVisualTower, sizes.synchformer)
    return peak_during(lambda: encode_video(stream_frames(clip), siglip2, synchformer), siglip2, synchformer)


def _decode(sizes: Sizes, seconds: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    vae = random_network(DACVAE, sizes.vae)
    latents = torch.randn(1, sizes.vae.latent_channels, latent_frames(seconds))
    return peak_during(lambda: vae.decode(latents), vae)


def peak_during(work: Callable[[], object], *networks: torch.nn.Module) -> dict:
    """How far the memory of this process rises above what it holds before `work`, at most while `work` runs."""
    gc.collect()
    before = status_mb("VmRSS")
    forget_peak()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    del result
    weights = sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
    return {"peak_mb": status_mb("VmHWM") - before, "weights_mb": weights / MB, "seconds": seconds}


def forget_peak() -> None:
    """Sets the peak, `VmHWM`, back to the present."""
    Path("/proc/self/clear_refs").write_text("5")


def status_mb(field: str) -> float:
    """A field of this process's memory as Linux counts it; there is no peak that can be set back elsewhere."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(field))

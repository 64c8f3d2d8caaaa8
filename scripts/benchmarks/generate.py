"""Whole sampling loops through ComfyUI, in many ways, against the straightforward one and the machine's peak."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_foley_core.checkpoint import read_state_dict
from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.timing import ClipTiming

from . import plain_sampling, random_file
from . import step as transformer_step
from .comfy_session import GB, KEPT_FREE, Session
from .configurations import Configuration
from .memory import MB, forget_peak, in_own_process, own_process, status_mb
from .sizes import XXL

MATMUL_ROUNDS, PLAIN_ROUNDS = 5, 2
LARGE_MATMUL = (8192, 8192, 8192)  # where a GPU is fastest
STEPS_BEFORE = 2  # of the run that is not measured: it loads and compiles


@dataclass(frozen=True)
class Setting:
    """What all configurations share.

    Attributes:
        folder: for files with random weights, which stay there.
        steps: of sampling.
        rounds: how often each configuration is measured; the fastest counts.
        clock: a key of `step.CLOCKS`.
        until: of `time.monotonic`, when no configuration is begun any more; None: all are measured.
    """

    comfyui: Path
    folder: Path
    config: TransformerConfig
    device: torch.device
    threads: int
    steps: int
    rounds: int
    clock: str
    until: float | None = None


def measure(
    setting: Setting, configurations: list[Configuration], progress: Callable[[str], None],
    keep: Callable[[dict], None] = lambda found: None,
) -> dict:
    """A row for each configuration, ready for JSON; one that fails has an `error` and no figures.

    `difference` is that of the latents from the first configuration's of the same precision, length and batch.

    On a CPU each configuration has a process of its own; on a GPU, where a process can tell its own peaks apart, those
    that share a file and a limit and follow one another share one.

    Args:
        keep: is given what there is so far after each row, for a machine that may be taken away.
    """
    config, rows, exact = setting.config, [], {}
    found = {
        "width": config.hidden_size, "blocks": [config.num_multimodal_blocks, config.num_unimodal_blocks],
        "device": setting.device.type, "steps": setting.steps, "rounds": setting.rounds, "clock": setting.clock,
        "rows": rows,
    }
    for number, (one, row) in enumerate(_in_turn(setting, configurations, progress), 1):
        progress(f"{number} of {len(configurations)} done")
        latents = row.pop("latents", None)
        if latents is not None:
            row["difference"] = _difference(latents, exact.setdefault((one.precision, one.seconds, one.batch), latents))
        rows.append({"name": one.name, **row})
        keep(found)
    return found


def _make_file(setting: Setting, precision: str) -> None:
    """Not in this process if that would leave memory of the GPU with it."""
    arguments = (random_file.make, setting.folder, setting.config, precision, setting.device)
    in_own_process(*arguments) if setting.device.type == "cuda" else random_file.make(*arguments[1:])


def _difference(latents: Tensor, reference: Tensor) -> float | None:
    """Relative L2; None for the reference itself."""
    return None if latents is reference else float((latents - reference).norm() / reference.norm())


def _in_turn(
    setting: Setting, configurations: list[Configuration], progress: Callable[[str], None]
) -> Iterator[tuple[Configuration, dict]]:
    pool, owner = None, None
    for one in configurations:
        if setting.until is not None and time.monotonic() > setting.until:
            yield one, {"error": "not begun, the time was up"}
            continue
        progress(f"random weights in {one.precision}")
        _make_file(setting, one.precision)
        progress(one.name)
        wanted = one.name if setting.device.type == "cpu" else (one.precision, one.cap)
        if pool is None or owner != wanted:
            if pool is not None:
                pool.shutdown()
            pool, owner = own_process(), wanted
        try:
            yield one, pool.submit(run, setting, one).result()
        except BrokenProcessPool:
            pool = None
            yield one, {"error": "its process was ended, as systems do that run out of memory"}
    if pool is not None:
        pool.shutdown()


def run(setting: Setting, one: Configuration) -> dict:
    """Measures one configuration in this process; its latents are among the figures."""
    torch.set_num_threads(setting.threads)
    try:
        session, before = _session(setting, one.precision, one.cap)
        found = _ours(setting, one, session, before)
        return found | _against(setting, one, session, found["seconds_per_clip"])
    except Exception as error:  # noqa: BLE001 - of whatever one fails, its row says so and the others go on
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


@lru_cache(maxsize=1)
def _session(setting: Setting, precision: str, cap: int | None) -> tuple[Session, float]:
    """The one of this process, and the process's memory before it had a model, in MB; 0 where the GPU's is counted."""
    session = Session(setting.comfyui, cap, setting.device)
    before = 0.0 if setting.device.type == "cuda" else status_mb("VmRSS")
    file = random_file.make(setting.folder, setting.config, precision, setting.device)
    session.load(file, _share(precision, cap))
    return session, before


def _share(precision: str, cap: int | None) -> float:
    """Of the weights of the released XXL that ComfyUI would load on a device with so many GB."""
    if not cap:
        return 1.0 if cap is None else 0.0
    return min(1.0, (cap * GB - KEPT_FREE) / random_file.size(XXL, precision))


def _ours(setting: Setting, one: Configuration, session: Session, before: float) -> dict:
    session.release()  # what one before may have left that failed
    model = session.model(one.compiled)

    def sample(steps: int) -> Tensor:
        return session.sample(model, one.seconds, one.batch, steps)

    _, first = _timed(setting, lambda: sample(STEPS_BEFORE))
    _forget_peak(setting.device)
    runs = [_timed(setting, lambda: sample(setting.steps)) for _ in range(setting.rounds)]
    return {
        "latents": runs[0][0], "seconds_per_clip": min(seconds for _, seconds in runs) / one.batch,
        "seconds_of_first_steps": first, "peak_mb": _peak(setting.device) - before,
        "weights_mb": session.patcher.model_size() / MB, "loaded_mb": session.patcher.loaded_size() / MB,
        "computed_in": str(session.dtype).removeprefix("torch."),
    }


def _against(setting: Setting, one: Configuration, session: Session, ours: float) -> dict:
    """The same work at the rate of the machine's matrix products, and done plainly; `ours` is our seconds per clip."""
    config, counts, batch = setting.config, ClipTiming.from_seconds(one.seconds), 2 * one.batch  # guidance
    streams = session.patcher.model.model_lowvram
    session.release()
    gflop = transformer_step.gflop(config, counts, batch)[0] * setting.steps / one.batch
    rate = _matmul_rate(setting, transformer_step.matmul_shapes(config, counts, batch), session.dtype)
    plain = _plain_seconds(setting, one, session.dtype, streams) * setting.steps / one.batch
    return {
        "gflop_per_clip": gflop, "matmul_gflop_per_second": rate, "share_of_matmul": gflop / ours / rate,
        "plain_seconds_per_clip": plain, "times_as_fast": plain / ours,
    }


def _matmul_rate(setting: Setting, shapes: list[transformer_step.Shape], dtype: torch.dtype) -> float:
    """GFLOP/s of the fastest of these matrix products, and on a GPU of a large one."""
    shapes = [*shapes, LARGE_MATMUL] if setting.device.type == "cuda" else shapes
    fastest = 0.0
    for rows, inputs, outputs in shapes:
        product = transformer_step.matmul((rows, inputs, outputs), dtype, setting.device)
        fastest = max(fastest, 2e-9 * rows * inputs * outputs / _fastest(setting, product, MATMUL_ROUNDS))
    return fastest


def _plain_seconds(setting: Setting, one: Configuration, dtype: torch.dtype, streams: bool) -> float:
    """Seconds of a step written down plainly; where our weights do not all fit on the device, it moves every one."""
    file = random_file.make(setting.folder, setting.config, one.precision, setting.device)
    tensors, _ = read_state_dict(file)
    if not streams:
        tensors = {key: tensor.to(setting.device) for key, tensor in tensors.items()}
    weights = plain_sampling.Weights(tensors, setting.device, dtype)
    counts = ClipTiming.from_seconds(one.seconds)
    inputs = transformer_step.random_inputs(setting.config, counts, setting.device, 2 * one.batch)
    inputs = {name: tensor if name == "timestep" else tensor.to(dtype) for name, tensor in inputs.items()}
    return _fastest(setting, plain_sampling.step(weights, setting.config.num_heads, inputs), PLAIN_ROUNDS)


@torch.inference_mode()
def _fastest(setting: Setting, work: Callable[[], Tensor], rounds: int) -> float:
    timed = transformer_step.interleaved(
        {"": work}, rounds, transformer_step.CLOCKS[setting.clock], setting.device, lambda doing: None
    )
    return min(timed[""])


def _timed(setting: Setting, work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result, which is on the CPU, and the seconds."""
    clock = transformer_step.CLOCKS[setting.clock]
    start = clock()
    result = work()
    return result, clock() - start


def _forget_peak(device: torch.device) -> None:
    torch.cuda.reset_peak_memory_stats(device) if device.type == "cuda" else forget_peak()


def _peak(device: torch.device) -> float:
    """MB allocated on a GPU, or taken by this process, at most."""
    return torch.cuda.max_memory_allocated(device) / MB if device.type == "cuda" else status_mb("VmHWM")


def table(found: dict) -> list[str]:
    """The rows in Markdown."""
    head = ["configuration", "s per clip", "of matmul peak", "peak GB", "weights loaded GB", "times as fast as plain"]
    lines = ["| " + " | ".join([*head, "differs by"]) + " |", "|---" * (len(head) + 1) + "|"]
    return lines + [f"| {row['name']} | {row['error']} |" if "error" in row else _line(row) for row in found["rows"]]


def _line(row: dict) -> str:
    cells = [
        row["name"], f"{row['seconds_per_clip']:.2f}", f"{row['share_of_matmul']:.0%}", f"{row['peak_mb'] / 1000:.2f}",
        "{:.2f} of {:.2f}".format(row["loaded_mb"] / 1000, row["weights_mb"] / 1000), f"{row['times_as_fast']:.2f}",
        "" if row["difference"] is None else f"{row['difference']:.0e}",
    ]
    return "| " + " | ".join(cells) + " |"

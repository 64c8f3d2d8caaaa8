"""One loop for everything that is trained here.

An objective says what is computed; the loop says when. Whatever is random in an update is drawn from a generator seeded
by the run's seed and the batch's number, and batches are asked for by number, so that a run going on from a checkpoint
does what it would have done without the stop.
"""

import logging
import math
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from . import checkpoints, sharding
from .config import LoopConfig, OptimiserConfig, Settings
from .errors import TrainingError
from .going_on import compare
from .log import MetricsLog, unwritten
from .optimisers import Optimiser

logger = logging.getLogger(__name__)

# A batch is what an objective's `losses` takes; "names" in it, if there, is what messages call its clips.
Batch = dict[str, Any]
Source = Callable[[int], Batch]  # the batch of a number; equal numbers give equal batches
Callback = Callable[[int, int, dict[str, float]], None]
PhaseLoss = tuple[str, Tensor, dict[str, Tensor]]  # a phase's name, what it minimises, and parts of that for the record

TRAINING_STREAM, VALIDATION_STREAM = 0, 1  # so that validation never draws what training draws
# torchrun passes on to its processes what the terminal sent them already; so soon after the first it is the same signal.
ECHO_SECONDS = 3.0


@dataclass(frozen=True)
class Phase:
    """Parameters that one loss moves, by name. A plain objective has one phase, a GAN two.

    Attributes:
        matrices: names of those that Muon may move.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    optimiser: OptimiserConfig
    matrices: frozenset[str] = frozenset()


class Objective(Protocol):
    """What is trained.

    Attributes:
        phases: the optimisers.
        averaged: name of the phase whose weights are averaged for validation and export.
    """

    phases: list[Phase]
    averaged: str

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[PhaseLoss]:
        """The loss of each phase that update `step` moves."""

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Figures on a held-out batch."""

    def preview(self, batch: Batch, generator: torch.Generator, folder: Path) -> None:
        """Writes something to listen to or look at, made from a held-out batch, into `folder`."""

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and metadata of the file that inference loads."""


class Average:
    """Exponential moving average of parameters; follows closely while there is little to average."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float):
        self.parameters, self.decay = parameters, decay
        self.values = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters.items():
            sharding.local(self.values[name]).lerp_(sharding.local(parameter), weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the parameters hold their averages, and `values` the newest weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        # In place: shards are gathered from the memory they were given at first.
        for name, parameter in self.parameters.items():
            held, other = sharding.local(parameter), sharding.local(self.values[name])
            before = held.clone()
            held.copy_(other)
            other.copy_(before)


def train(
    objective: Objective, source: Source, config: LoopConfig, folder: Path, *,
    settings: Settings, validation: Source | None = None, callback: Callback | None = None,
) -> Path:
    """Trains until `config.steps`, going on from the newest checkpoint in `folder` if there is one.

    Several processes (see `sharding`) call it alike; the first of them writes and reports.

    Args:
        source: training batches by number.
        settings: all settings of the run, kept in the checkpoints to compare with when it goes on.
        validation: held-out batches by number; None: no validation.
        callback: called after each update with (done, of, newest figures); may raise to stop.

    Returns:
        The folder of the last checkpoint.

    Raises:
        TrainingError: a loss or gradient that is not finite, a checkpoint that does not fit, changed settings on a run that
            is finished, or something that cannot be written. Whatever a validation raises comes after a checkpoint.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with the update finished and a checkpoint written.
    """
    phases = {phase.name: phase for phase in objective.phases}
    for phase in objective.phases:
        sharding.check_sharded(phase.parameters)
    optimisers = {name: Optimiser(phase.parameters, phase.matrices, phase.optimiser) for name, phase in phases.items()}
    average = Average(phases[objective.averaged].parameters, config.ema)
    step = _resume(folder, phases, optimisers, average, settings, config.steps)
    log, figures = MetricsLog(folder, step, config.tensorboard) if sharding.first() else None, {}

    def save() -> None:
        with average.applied():
            weights, metadata = objective.export()
            weights = sharding.whole(weights)
            kept = checkpoints.copies(weights) if sharding.first() else None
        training = sharding.whole(_state(step, phases, optimisers, average, settings))
        if kept is not None:
            checkpoints.save(folder, step, kept, metadata, training, config.keep)
        sharding.wait()

    def record(line: dict[str, Any]) -> None:
        if log is not None:
            log.write(step, line)

    def validate(saved: bool) -> None:
        try:
            with average.applied():
                previews = folder / "previews" / f"step-{step:08d}"
                found = _validate(objective, validation, config, previews)
            record({"validation": found})
        except Exception:
            # Where several processes save together, this one may be the only one that failed.
            if not saved and sharding.count() == 1:
                save()
            raise

    with deferred_interrupts() as interrupts:
        while step < config.steps:
            started = time.perf_counter()
            parts, clips = _accumulate(objective, source, step, config)
            for name in dict.fromkeys(part.partition(".")[0] for part in parts):
                parts[f"{name}.gradient"] = _update(phases[name], optimisers[name], rate(step, config), step, clips)
            average.update(step)
            step += 1
            if step % config.log_every == 0:
                figures = {name: float(value) for name, value in sharding.means(parts).items()}
                record(figures | {"seconds": time.perf_counter() - started})
            # Before the validation, which needs memory and room of its own and may fail for want of them.
            if saved := step == config.steps or step % config.save_every == 0:
                save()
            if validation is not None and step % config.validate_every == 0:
                validate(saved)
            stop = _stopped_by(interrupts, callback if sharding.first() else None, (step, config.steps, figures))
            if stop is not None:
                if not saved:
                    save()
                raise stop
    return checkpoints.place(folder, step)


def rate(step: int, config: LoopConfig) -> float:
    """Share of the learning rate that update `step`, counted from 0, uses."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "cosine":
        return config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "step":
        return 0.1 ** ((step >= 0.8 * config.steps) + (step >= 0.9 * config.steps))
    return 1.0


def seeded(*numbers: int) -> torch.Generator:
    """A CPU generator that depends on all the numbers, each 0 or more, and on their order."""
    # The count comes first because SeedSequence takes (1,) and (1, 0) for the same.
    (state,) = np.random.SeedSequence([len(numbers), *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state))


def _accumulate(objective: Objective, source: Source, step: int, config: LoopConfig) -> tuple[dict[str, Tensor], list]:
    """Adds up the gradients of this process's share of one update; where it is sharded, FSDP takes their mean.

    Returns:
        The means of the losses and their parts, as `phase.part`, and the names of the clips.
    """
    parts, clips = {}, []
    numbers = sharding.share(range(step * config.accumulate, (step + 1) * config.accumulate))
    for number in numbers:
        batch = source(number)
        clips += batch.get("names", ())
        for phase, loss, named in objective.losses(batch, step, seeded(config.seed, TRAINING_STREAM, number)):
            if sharding.anyone(not loss.isfinite()):
                raise _not_finite(f"The loss of `{phase}`", loss, step, batch.get("names", ()))
            (loss / len(numbers)).backward()
            for name, value in ({"loss": loss} | named).items():
                key = f"{phase}.{name}"
                parts[key] = parts.get(key, 0) + value.detach() / len(numbers)
    return parts, clips


def _update(phase: Phase, optimiser: Optimiser, share: float, step: int, clips: list) -> Tensor:
    """Clips, moves the weights, clears the gradients; returns the gradients' norm before clipping."""
    norm = sharding.complete(nn.utils.clip_grad_norm_(phase.parameters.values(), phase.optimiser.clip))
    if not norm.isfinite():
        raise _not_finite(f"The gradient of `{phase.name}`", norm, step, clips)
    optimiser.step(share)
    return norm


def _not_finite(what: str, value: Tensor, step: int, clips) -> TrainingError:
    names = ", ".join(sharding.everyones(list(clips))) or "unnamed clips"
    values = [number for number in sharding.everyones([value.item()]) if not math.isfinite(number)]
    return TrainingError(
        f"{what} became {values[0]} in update {step + 1}, on the batch of {names}.",
        "Expected a finite number; the checkpoints written before are as they were.",
        "Listen to these clips; if they are sound, lower the learning rate or the clip of the gradients and go on.",
    )


@torch.no_grad()
def _validate(objective: Objective, validation: Source, config: LoopConfig, previews: Path) -> dict[str, float]:
    """The mean of every figure over the held-out batches, with the same random numbers each time.

    Previews of the first batch go into the folder `previews`.
    """
    with _folder_of_first(previews) as folder:
        objective.preview(validation(0), seeded(config.seed, VALIDATION_STREAM, 0), folder)
    results = [
        objective.validate(validation(number), seeded(config.seed, VALIDATION_STREAM, number))
        for number in range(config.validation_batches)
    ]
    return {name: sum(result[name] for result in results) / len(results) for name in results[0]}


@contextmanager
def _folder_of_first(folder: Path) -> Iterator[Path]:
    """The folder, made, for the first process; for the others, who compute with it, one that goes away.

    Raises:
        TrainingError: it, or something in it, cannot be written.
    """
    if not sharding.first():
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise unwritten("previews", folder, error) from error


def _stopped_by(interrupts: list[int], callback: Callback | None, progress) -> BaseException | None:
    """What asks to stop between two updates: a signal to any of the processes, or the callback's own exception."""
    cancelled = None
    try:
        if callback is not None:
            callback(*progress)
    except BaseException as error:
        cancelled = error
    stopped = sharding.anyone(bool(interrupts) or cancelled is not None)
    if cancelled is not None:
        return cancelled
    if stopped:
        return KeyboardInterrupt(f"Stopped after update {progress[0]}; the same command goes on from there.")
    return None


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """A list that a first Ctrl-C or SIGTERM is put into instead of stopping the work midway; a second one stops it.

    In any thread but the main one, which alone may listen, the list stays empty.
    """
    received: list[int] = []
    earliest = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number, frame):
        nonlocal earliest
        now = time.monotonic()
        if not received:
            earliest = now
        elif sharding.count() == 1 or now - earliest > ECHO_SECONDS:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _state(step: int, phases, optimisers, average: Average, settings: Settings) -> dict[str, Any]:
    return {
        "step": step,
        "settings": settings,
        "parameters": {name: {k: p.detach() for k, p in phase.parameters.items()} for name, phase in phases.items()},
        "optimisers": {name: optimiser.state() for name, optimiser in optimisers.items()},
        "average": average.values,
    }


def _resume(folder: Path, phases, optimisers, average: Average, settings: Settings, steps: int) -> int:
    """Puts the newest checkpoint's state in place, if there is one; returns the updates done."""
    written = checkpoints.found(folder)
    sharding.check_same("the newest checkpoint", written[-1].name if written else "none")
    if not written:
        return 0
    state = checkpoints.load(written[-1])
    both = phases.keys() & state["parameters"].keys()  # a phase new to the run begins as it is
    fits = all(_shapes(phases[name].parameters) == _shapes(state["parameters"][name]) for name in both)
    if told := compare(state["settings"], settings, run=folder, done=state["step"], steps=steps, fits=fits):
        logger.warning(told)
    with torch.no_grad():
        for name in both:
            for key, value in state["parameters"][name].items():
                _fill(phases[name].parameters[key], value)
            optimisers[name].load(state["optimisers"][name])
        for key, value in state["average"].items():
            _fill(average.values[key], value)
    return state["step"]


def _fill(target: Tensor, value: Tensor) -> None:
    sharding.local(target).copy_(sharding.local(sharding.part_of(value, target)))


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}

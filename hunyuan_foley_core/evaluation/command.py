"""`evaluate-tiny`: the table of figures beside their targets, from a folder of weights."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..errors import InputError
from ..pipeline import find_model_files
from . import costs, rows
from .codec import codec_rows
from .machine import describe
from .report import as_json, as_markdown
from .rows import Bench, Part, Plan, beyond, main_takes
from .takes import FIRST_SEED, Take, Takes

PARTS: dict[str, Part] = {
    "onsets": Part(main_takes, rows.onset_rows),
    "control": Part(main_takes, rows.control_rows),
    "material": Part(main_takes, rows.material_rows),
    "several": Part(rows.several_takes, rows.several_rows),
    "text": Part(rows.text_takes, rows.text_rows),
    "silent": Part(rows.silent_takes, rows.silent_rows),
    "loudness": Part(main_takes, rows.loudness_rows),
    "tag": Part(rows.tag_takes, rows.tag_rows),
    "codec": Part(lambda plan: [], codec_rows),
    "speed": Part(lambda plan: [], costs.speed_rows),
    "size": Part(lambda plan: [], costs.size_rows),
    "plain": beyond("plain", 0.75, rows.plain_takes),
    "lengths": beyond("lengths", 0.92, rows.length_takes),
    "rates": beyond("rates", 0.92, rows.rate_takes),
    "sizes": beyond("sizes", 0.92, rows.size_takes),
}
WRITERS = {".md": as_markdown, ".json": as_json}

Tell = Callable[[str], None]


def run(
    models: Path, plan: Plan, names: Sequence[str] = (), out: Sequence[Path] = (), *, work: Path, steps: int = 50,
    tell: Tell = lambda line: None,
) -> str:
    """Makes what is missing, listens to it, and writes the table.

    Args:
        models: folder with the weight files.
        names: of PARTS; none: all.
        out: files to write it to, as Markdown or JSON by their suffix.
        work: where the sounds made are kept.
        tell: called with each row when it is known, and with how far the making is.

    Returns:
        The table as Markdown.

    Raises:
        FoleyError: an unknown row or suffix, or a network that is missing.
    """
    parts = _chosen(names)
    _check(plan, out)
    files = find_model_files(models)
    bench = Bench(Takes(files, work, steps), plan)
    machine = describe(torch.device("cpu"), torch.get_num_threads())
    about = {"weights": str(models), "machine": machine, "sampling": f"{steps} steps, guidance 4.5, default negative prompt",
             "clips": f"{plan.clips} from seed {FIRST_SEED}, never trained on"}
    table, clock = [], Clock(bench.takes, [take for part in parts.values() for take in part.takes(plan)], tell)
    for part in parts.values():
        clock.make(part.takes(plan))
        found = part.rows(bench)
        table += found
        for row in found:
            tell(f"{row.what}: {row.figure}")
        for path in out:  # after every part, so that a stopped run leaves what it knows
            path.write_text(WRITERS[path.suffix](table, about), encoding="utf-8")
    return as_markdown(table, about)


class Clock:
    """Makes takes one by one and tells how many seconds are left for all of them."""

    def __init__(self, takes: Takes, planned: list[Take], tell: Tell):
        self.takes, self.tell = takes, tell
        self.missing = takes.missing(planned)
        self.spent, self.done = 0.0, 0.0  # seconds of work and of sound

    def make(self, takes: list[Take]) -> None:
        for take in self.takes.missing(takes):
            started = time.perf_counter()
            self.takes.make(take)
            self.missing.remove(take)
            self.spent, self.done = self.spent + time.perf_counter() - started, self.done + take.seconds
            left = sum(other.seconds for other in self.missing) * self.spent / self.done
            self.tell(f"{take.name} made; {len(self.missing)} more, about {left / 60:.0f} min")


def write_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _chosen(names: Sequence[str]) -> dict[str, Part]:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise InputError(f"There is no row {', '.join(unknown)}.", f"Known are {', '.join(PARTS)}.", "Correct the name.")
    return {name: part for name, part in PARTS.items() if name in names or not names}


def _check(plan: Plan, out: Sequence[Path]) -> None:
    if plan.clips < 1:
        raise InputError(f"The number of clips is {plan.clips}.", "Expected at least 1.", "200 give the table.")
    for path in out:
        if path.suffix not in WRITERS:
            raise InputError(f"The table was to be written to {path.name}.", "Expected .md or .json.", "Change the suffix.")
        if not path.parent.is_dir():
            raise InputError(f"There is no folder {path.parent}.", "Expected one to write into.", "Make it first.")

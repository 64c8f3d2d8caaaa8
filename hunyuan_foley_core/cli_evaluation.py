"""The commands that judge: `evaluate-tiny` a folder of weights, `ablate` the parts of the design."""

import argparse
from pathlib import Path

from .small_model import FOLDER as WEIGHTS


def add_evaluate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--models", type=Path, default=WEIGHTS, help="folder with the model files (default: %(default)s)")
    add("--clips", type=int, default=200, help="held-out clips of the main rows (default: %(default)s)")
    add("--rows", nargs="+", default=(), metavar="ROW", help="which to make (default: all); an unknown one lists them")
    add("--out", nargs="+", type=Path, default=(), metavar="FILE", help="write the table there too, as .md or .json")
    add("--work", type=Path, default=Path("output/evaluation"), help="where sounds are kept, to go on (default: %(default)s)")
    add("--steps", type=int, default=50, help="sampling steps (default: %(default)s, for which the targets are)")


def run_evaluate(args: argparse.Namespace) -> str:
    from .evaluation import command  # here, because no other command needs what it does

    plan = command.Plan(clips=args.clips)
    try:
        return command.run(
            args.models, plan, args.rows, args.out, steps=args.steps, work=args.work, tell=command.write_line
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped; the same command goes on from there.") from None


def add_ablate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("config", help="settings of the full model, as for train; loop.steps is the budget of each run")
    add("settings", nargs="*", metavar="key=value", help="settings to use instead of those in the file")
    add("--models", type=Path, default=WEIGHTS, help="folder with the encoders and the DAC-VAE (default: %(default)s)")
    add("--variants", nargs="+", metavar="NAME", help="which to run (default: all); an unknown one lists them")
    add("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    add("--clips", type=int, default=40, help="held-out clips to score on (default: %(default)s)")
    add("--seconds", type=float, default=2.0, help="their length (default: %(default)s)")
    add("--steps", type=int, default=25, help="sampling steps (default: %(default)s)")


def run_ablate(args: argparse.Namespace) -> str:
    from .evaluation import ablation
    from .evaluation.command import write_line

    chosen = {} if args.variants is None else {"variants": tuple(args.variants)}
    plan = ablation.Plan(seeds=args.seeds, clips=args.clips, seconds=args.seconds, steps=args.steps, **chosen)
    return ablation.run(args.config, args.settings, args.models, plan, tell=write_line)

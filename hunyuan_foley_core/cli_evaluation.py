"""The command `evaluate-tiny`: figures of a folder of weights beside their targets."""

import argparse
from pathlib import Path

WEIGHTS = Path(__file__).parent.parent / "weights"


def add_evaluate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--models", type=Path, default=WEIGHTS, help="folder with the model files (default: %(default)s)")
    add("--clips", type=int, default=200, help="held-out clips of the main rows; the others take a share (default: %(default)s)")
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

"""What each way of storing the transformer's weights costs: the error of the velocity against float32.

    python scripts/precision.py          the small model, and random weights of the released width (a minute or two)
    python scripts/precision.py small    one of them; the other is `wide`

Errors are relative L2 over both halves of guidance and some noise levels. Products are computed in float32, so that it
is the storage that is measured, except where a line says otherwise. docs/precision.md has the result and what follows.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from console import say, step

sys.path.append(str(Path(__file__).parent.parent))

NAMES = ("small", "wide")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(NAMES)}; both if none is named")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(NAMES)
    if unknown:
        parser.error(f"unknown case: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    results = run(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def run(arguments: argparse.Namespace) -> list[dict]:
    import torch
    from benchmarks import precision

    from hunyuan_foley_core.evaluation import machine

    torch.set_num_threads(arguments.threads)
    say("{cpu}, {threads} threads, torch {torch}".format(**machine.describe(torch.device("cpu"), arguments.threads)))
    results = []
    for name in arguments.cases or NAMES:
        with step(f"Measuring {name}") as current:
            results.append(precision.measure(precision.CASES[name](), current.update))
        say("\n" + "\n".join(precision.tables(results[-1])) + "\n")
    return results


if __name__ == "__main__":
    main()

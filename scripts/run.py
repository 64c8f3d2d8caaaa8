"""The two commands of this repository; any Python 3.10 or newer runs them.

    python scripts/run.py demo    a video in, the same video with sound out, through a real ComfyUI
    python scripts/run.py test    the tests, against a real ComfyUI
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - older ones are what this is for
    sys.exit("This is Python {}.{}; Python 3.10 or newer is needed.".format(*sys.version_info))

import environment
from console import say
from environment import ROOT, SetupError

# Appended, so that what the chosen Python has is used before what lies beside it.
RUN_PYTEST = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module('pytest', run_name='__main__')"


def main() -> int:
    arguments, rest = _parser().parse_known_args()
    try:
        chosen = environment.find(arguments.comfyui) if arguments.comfyui else environment.build()
        return arguments.run(chosen, arguments, rest)
    except SetupError as error:
        say(f"\n{error}")
    except OSError as error:  # a full disk, a folder that may not be written
        say(f"\nA file could not be read or written: {error}")
    except KeyboardInterrupt:
        say("\nStopped. The same command takes up what was not finished.")
        return 130
    return 1


def demo(chosen: environment.Environment, arguments: argparse.Namespace, rest: list[str]) -> int:
    if rest:
        _parser().error(f"unknown arguments: {' '.join(rest)}")
    options = {name: value for name, value in vars(arguments).items() if name not in ("run", "comfyui")}
    settings = json.dumps({**options, "comfyui": chosen.comfyui}, default=str)
    return subprocess.call([str(chosen.python), str(ROOT / "scripts" / "demo.py"), settings])


def test(chosen: environment.Environment, arguments: argparse.Namespace, rest: list[str]) -> int:
    beside = environment.test_tools(chosen)
    runner = ["-c", RUN_PYTEST, str(beside)] if beside else ["-m", "pytest"]
    settings = {"FOLEY_COMFYUI": str(chosen.comfyui)}
    try:
        settings["FOLEY_FILMS"] = str(environment.films(chosen))
    except SetupError as error:
        say(f"Tests that need a film cannot run. {error}")
    return subprocess.call([str(chosen.python), *runner, *rest], cwd=ROOT, env={**os.environ, **settings})


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument(
        "--comfyui", type=Path, metavar="PATH",
        help="use the ComfyUI in this folder, and its Python, instead of building one under .env; "
        "nothing is written or installed there",
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="demo | test")
    settings = {"parents": [common], "allow_abbrev": False}
    _add_demo(commands.add_parser("demo", help="make sound for a video", **settings))
    tests = commands.add_parser("test", help="run the tests; pytest's own arguments may follow", **settings)
    tests.set_defaults(run=test)
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=demo)
    parser.add_argument("--video", type=Path, metavar="FILE", help="the video (default: workflows/foley_example.mp4)")
    parser.add_argument("--prompt", help="what is heard (default: the workflow's)")
    parser.add_argument("--negative", help="what shall not be heard (default: the workflow's)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the workflow's)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same sound (default: 0)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.mp4", help="where the result goes (default: output/<name of the video>.mp4)"
    )
    parser.add_argument("--cpu", action="store_true", help="compute on the CPU even where there is a GPU")


if __name__ == "__main__":
    sys.exit(main())

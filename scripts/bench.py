"""Speed and memory of this package, as ratios from one run.

    python scripts/bench.py                    everything, at the released sizes (some ten minutes on two cores)
    python scripts/bench.py step               one transformer step against a plain implementation and against its floor
    python scripts/bench.py convolutions       those of a block, in torch's way and as matrix products
    python scripts/bench.py encode decode      peak memory of encoding a 15 s clip, and of decoding 15, 30 and 60 s
    python scripts/bench.py host --comfyui PATH        what a step costs beside its arithmetic
    python scripts/bench.py generate --comfyui PATH    whole sampling loops in ComfyUI, in a Python with its packages
    python scripts/bench.py generate --list            the configurations it has
    python scripts/bench.py generate --comfyui PATH --only 'bf16-*-8s-x1' 'fp8-full-*'    some of them

`generate` measures the whole XXL on a GPU, and on a CPU a transformer of the released width with 2 + 4 blocks. Without
--only it takes some of its configurations; --only '*' takes all. A limit on memory is kept on a GPU as on one that has
no more. On a CPU it says how large a share of the weights stays loaded: that which XXL would have within the limit.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import configurations
from console import say, step

sys.path.append(str(Path(__file__).parent.parent))

PARTS = ("step", "convolutions", "encode", "decode", "host", "generate")
IN_COMFYUI = ("host", "generate")


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    _check(parser, arguments)
    if arguments.list:
        for one in configurations.choose(arguments.only or configurations.EVERYTHING):
            say(one.name)
        return
    if arguments.clock == "cpu":
        # Threads that wait must not count as computing; read when the library is loaded.
        os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    results = run(arguments)
    say("")
    for line in table(results):
        say(line)


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with a message if the arguments make no sense."""
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    inside = [part for part in IN_COMFYUI if part in arguments.parts]
    if inside and not (arguments.comfyui or arguments.list):
        parser.error(f"{inside[0]} runs in ComfyUI: name its folder with --comfyui")
    if arguments.comfyui and not (arguments.comfyui / "main.py").is_file():
        parser.error(f"{arguments.comfyui} is no folder of ComfyUI: it has no main.py")
    try:
        configurations.choose(arguments.only or configurations.EVERYTHING)
    except ValueError as error:
        parser.error(str(error))


def run(arguments: argparse.Namespace) -> dict:
    """The results of the chosen parts by name, and what they ran on."""
    import torch

    from benchmarks import convolutions, host, memory
    from benchmarks import step as transformer_step
    from benchmarks.sizes import BY_NAME

    from hunyuan_foley_core.evaluation import machine

    sizes, threads = BY_NAME[arguments.size], arguments.threads
    torch.set_num_threads(threads)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    results = {"machine": machine.describe(device, threads), "size": arguments.size}

    def keep(found: dict) -> None:
        _keep(arguments, {**results, "generate": found})

    measures = {
        "step": lambda tell: transformer_step.measure(sizes, device, arguments.rounds, arguments.clock, tell),
        "convolutions": lambda tell: convolutions.measure(sizes, device, arguments.rounds, arguments.clock, tell),
        "encode": lambda tell: memory.measure_encoding(sizes, threads, tell),
        "decode": lambda tell: memory.measure_decoding(sizes, threads, tell),
        "host": lambda tell: host.measure(arguments.comfyui.resolve(), arguments.rounds, tell),
        "generate": lambda tell: _generate(arguments, device, tell, keep),
    }
    for part in arguments.parts or [part for part in PARTS if part not in IN_COMFYUI or arguments.comfyui]:
        with step(f"Measuring {part}") as current:
            results[part] = measures[part](current.update)
        _keep(arguments, results)
    return results


def _keep(arguments: argparse.Namespace, results: dict) -> None:
    """Writes what there is, so that a machine that is taken away leaves it."""
    from hunyuan_foley_core.whole_files import whole

    if arguments.json:
        with whole(arguments.json) as unfinished:
            unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _generate(arguments: argparse.Namespace, device, tell: Callable[[str], None], keep: Callable[[dict], None]) -> dict:
    from benchmarks import generate, sizes

    on_cpu = device.type == "cpu"
    config = sizes.BY_NAME[arguments.size].transformer
    if arguments.size == "released":
        config = {"xxl": sizes.XXL, "xl": sizes.XL, "few": config}[arguments.model or ("few" if on_cpu else "xxl")]
    usual = configurations.ON_A_CPU if on_cpu else configurations.ON_A_GPU
    chosen = configurations.choose(arguments.only or usual)
    with ExitStack() as stack:
        folder = arguments.weights or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        setting = generate.Setting(
            comfyui=arguments.comfyui.resolve(), folder=folder, config=config, device=device,
            threads=arguments.threads, steps=arguments.steps or (3 if on_cpu else 50),
            rounds=min(arguments.rounds, 2), clock=arguments.clock,
            until=None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes,
        )
        return generate.measure(setting, chosen, tell, keep)


def table(results: dict) -> list[str]:
    """The results for reading, one line each."""
    from benchmarks import convolutions, host

    lines = _machine_lines(results["machine"], results["size"])
    parts = {
        "step": _step_lines, "convolutions": convolutions.lines, "encode": _encode_lines, "decode": _decode_lines,
        "host": lambda found: [host.line(found)], "generate": _generate_lines,
    }
    for part, describe in parts.items():
        if part in results:
            lines += ["", *describe(results[part])]
    return lines


def _machine_lines(machine: dict, size: str) -> list[str]:
    gpu = "{gpu}, " if machine["gpu"] else ""
    return [
        (gpu + "{cpu}, {cores} cores, {threads} threads, load {load} at the start").format(**machine),
        "torch {torch}, Python {python}, {system}; ".format(**machine) + f"{size} sizes, random weights",
    ]


def _step_lines(found: dict) -> list[str]:
    minimum, median, gflop = found["minimum"], found["median"], found["gflop"]

    def row(title: str, name: str, digits: int = 2, note: str = "") -> str:
        return f"  {title:36}{minimum[name]:10.{digits}f}{median[name]:10.{digits}f}  {note}".rstrip()

    shape = "x".join(map(str, minimum["matmul_shape"]))
    tokens = "L {latent_frames}, V {visual_tokens}, S {sync_tokens}, T {text_tokens}".format(**found)
    return [
        "Transformer step: width {width}, {blocks[0]} + {blocks[1]} blocks, {0}, batch {batch}".format(tokens, **found),
        "  {dtype} on {device}, {clock} clock, {rounds} rounds of all candidates in turns".format(**found),
        f"  {'':36}{'minimum':>10}{'median':>10}",
        row("ours, seconds", "ours_seconds", 4),
        row("straightforward, seconds", "plain_seconds", 4),
        row("matrix products, GFLOP/s", "matmul_gflop_per_second", 1, f"best of six shapes: {shape}"),
        row("ours / straightforward", "ours_over_plain"),
        row("ours / floor", "ours_over_floor", note=f"{gflop['ours']:.1f} GFLOP; aim 1.2"),
        row("ours / straightforward's floor", "ours_over_floor_of_plain", note=f"{gflop['plain']:.1f} GFLOP"),
        row("straightforward / its floor", "plain_over_floor_of_plain"),
        f"  difference of the outputs in float32: {found['difference']:.1e}",
    ]


def _encode_lines(found: dict) -> list[str]:
    return [
        f"Encode Video: {found['clip']}",
        f"  peak above the models' own            {found['peak_mb']:8.0f} MB  aim 300; "
        f"the clip in float32 is {found['clip_in_float32_mb']:.0f} MB",
        f"  the models                            {found['weights_mb']:8.0f} MB",
        f"  time                                  {found['seconds']:8.1f} s",
    ]


def _decode_lines(found: dict) -> list[str]:
    return [
        f"DAC decode: the model is {found['runs'][0]['weights_mb']:.0f} MB",
        *(
            f"  {run['sound_seconds']:3} s: peak above the model's own {run['peak_mb']:8.0f} MB, {run['seconds']:.1f} s"
            for run in found["runs"]
        ),
        f"  longest / shortest                    {found['longest_over_shortest']:8.2f}",
    ]


def _generate_lines(found: dict) -> list[str]:
    from benchmarks import generate

    sizes = "width {width}, {blocks[0]} + {blocks[1]} blocks, {steps} steps with guidance on {device}".format(**found)
    title = f"Sampling in ComfyUI: {sizes}, {found['clock']} clock, best of {found['rounds']}"
    return [title, "", *generate.table(found)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART",
        help=f"{', '.join(PARTS)}; all if none is named, {' and '.join(IN_COMFYUI)} with --comfyui",
    )
    parser.add_argument(
        "--size", choices=("released", "small", "tiny"), default="released",
        help="small: small networks, the same inputs; tiny: small inputs as well, for a look at whether it runs",
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="how often each candidate of `step` runs (10); at most 2 in `generate`"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="for `step` and `generate` on a CPU. cpu: seconds of computing of all threads, where others compute too",
    )
    parser.add_argument("--device", help="for `step` and `generate`; cuda where there is one, else cpu")
    parser.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="for `host` and `generate`: folder that holds ComfyUI's main.py"
    )
    generate = parser.add_argument_group("generate")
    generate.add_argument("--only", nargs="+", metavar="NAME", help="configurations; * stands for anything")
    generate.add_argument("--list", action="store_true", help="show the configurations, or those of --only, and stop")
    generate.add_argument(
        "--model", choices=("xxl", "xl", "few"), help="at the released sizes: xxl (on a GPU), xl, few blocks (on a CPU)"
    )
    generate.add_argument("--steps", type=int, help="of sampling (50; on a CPU 3)")
    generate.add_argument("--minutes", type=float, help="begin no configuration after so many; --json keeps what there is")
    generate.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="keep the files with random weights there, for the next time"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    return parser


if __name__ == "__main__":
    main()

"""Speed and memory of this package, as ratios from one run.

    python scripts/bench.py                    everything, at the released sizes (some ten minutes on two cores)
    python scripts/bench.py step               one transformer step against a plain implementation and against its floor
    python scripts/bench.py encode decode      peak memory of encoding a 15 s clip, and of decoding 15, 30 and 60 s
"""

import argparse
import json
import os
import sys
from pathlib import Path

from console import say, step

sys.path.append(str(Path(__file__).parent.parent))

PARTS = ("step", "encode", "decode")


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if arguments.clock == "cpu":
        # Threads that wait must not count as computing; read when the library is loaded.
        os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    results = run(arguments)
    say("")
    for line in table(results):
        say(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def run(arguments: argparse.Namespace) -> dict:
    """The results of the chosen parts by name, and what they ran on."""
    import torch

    from benchmarks import memory
    from benchmarks import step as transformer_step
    from benchmarks.sizes import BY_NAME

    from hunyuan_foley_core.evaluation import machine

    sizes, threads = BY_NAME[arguments.size], arguments.threads
    torch.set_num_threads(threads)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    measures = {
        "step": lambda tell: transformer_step.measure(sizes, device, arguments.rounds, arguments.clock, tell),
        "encode": lambda tell: memory.measure_encoding(sizes, threads, tell),
        "decode": lambda tell: memory.measure_decoding(sizes, threads, tell),
    }
    results = {"machine": machine.describe(device, threads), "size": arguments.size}
    for part in arguments.parts or PARTS:
        with step(f"Measuring {part}") as current:
            results[part] = measures[part](current.update)
    return results


def table(results: dict) -> list[str]:
    """The results for reading, one line each."""
    lines = _machine_lines(results["machine"], results["size"])
    for part, describe in (("step", _step_lines), ("encode", _encode_lines), ("decode", _decode_lines)):
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
        row("ours / floor", "ours_over_floor", note=f"{gflop['ours']:.1f} GFLOP; aim 1.25"),
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument(
        "--size", choices=("released", "small", "tiny"), default="released",
        help="small: small networks, the same inputs; tiny: small inputs as well, for a look at whether it runs",
    )
    parser.add_argument("--rounds", type=int, default=10, help="how often each candidate of `step` runs (10)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall",
        help="for `step` on a CPU. cpu: seconds of computing of all threads, for a machine that others use as well",
    )
    parser.add_argument("--device", help="for `step`; cuda where there is one, else cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    return parser


if __name__ == "__main__":
    main()

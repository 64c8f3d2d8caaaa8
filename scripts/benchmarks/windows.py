"""What windows, scenes and timed prompts do to sound, on the small model or another one.

    python scripts/benchmarks/windows.py MEASURE [--models MODELS] [--steps 16] [--clips 1]       (one of these:)

borders: onset F1 against the true events, within half a second of a hand-over between windows and elsewhere (64 s clips in
    which one thing acts).
ends: onset F1 behind the last hand-over, of clips whose last window would be shorter than the others (one thing acts).
level: how the level steps over a hand-over, and over places between them (64 s of a room's noise, and of rolling; text alone).
memory: peak above the model while 1 and 10 minutes are sampled, above what noise and features take.
films: the command `generate` from file to file on films of 1 and 10 minutes: peak memory of the process, and time.
time: CPU seconds of a step over the length, and how straight the line is.
prompts: share of the onsets that lie in the span (+-0.1 s) that a prompt was given.
cuts: how far a scene reaches over its cut when latents are decoded in one go.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from benchmarks.memory import MB, in_own_process, peak_during, status_mb  # noqa: E402
from console import say  # noqa: E402

from hunyuan_foley_core import checkpoint, cli, media, small_model  # noqa: E402
from hunyuan_foley_core.data import make_clip  # noqa: E402
from hunyuan_foley_core.data.actions import make_scene  # noqa: E402
from hunyuan_foley_core.data.scoring import OnsetScore, compare, onsets  # noqa: E402
from hunyuan_foley_core.data.world import write_picture  # noqa: E402
from hunyuan_foley_core.pipeline import ModelFiles, Settings, find_model_files, generate  # noqa: E402
from hunyuan_foley_core.sampling import make_noise, sample  # noqa: E402
from hunyuan_foley_core.timed_prompts import parse  # noqa: E402
from hunyuan_foley_core.timing import LATENT_RATE, SAMPLE_RATE, ClipTiming, latent_frames  # noqa: E402
from hunyuan_foley_core.windows import Window, plan_windows  # noqa: E402

SECONDS = 64.0
HELD_OUT = 900_000  # seeds from here on are not for training
TOLERANCE = 0.06  # seconds between a heard and a true onset
AROUND = 0.5  # seconds to either side of a hand-over
FEWEST_EVENTS = 40
ENDS = 9.42, 9.56  # seconds: last windows of 183 and 190 frames in place of 198
FEWEST_AT_END = 3  # events behind the last hand-over
FILMS = 60.0, 600.0  # seconds
LEVELS = {"steady": "a quiet room with a wooden block", "rolling": "a stone ball rolls over the ground"}
ASKED = {
    "hammering on a glass block": (3.0, 5.0), "knocking at a wooden door": (1.0, 3.5),
    "a metal ball bounces on the floor": (5.0, 7.0),
}


def hand_overs(windows: tuple[Window, ...]) -> list[float]:
    """Seconds at which one window has handed half over to the next."""
    return [(before.stop + after.start) / 2 / LATENT_RATE for before, after in itertools.pairwise(windows)]


def borders(files: ModelFiles, settings: Settings, clips: int) -> dict:
    seeds = (seed for seed in itertools.count(HELD_OUT) if len(make_scene(seed, SECONDS, 1).events) >= FEWEST_EVENTS)
    near, far = OnsetScore(0, 0, 0), OnsetScore(0, 0, 0)
    moments = np.array(hand_overs(_windows(files)))
    for seed in itertools.islice(seeds, clips):
        heard, true = _onsets(files, settings, seed, SECONDS)
        near += compare(*(_close(times, moments, AROUND) for times in (heard, true)), TOLERANCE)
        far += compare(*(_close(times, moments, AROUND, False) for times in (heard, true)), TOLERANCE)
    return {
        "near": {"f1": near.f1, "matched": near.matched, "found": near.found, "true": near.true},
        "elsewhere": {"f1": far.f1, "matched": far.matched, "found": far.found, "true": far.true},
    }


def ends(files: ModelFiles, settings: Settings, clips: int) -> dict:
    found = {}
    for seconds in ENDS:
        last = hand_overs(_windows(files, seconds))[-1]
        events = ((seed, make_scene(seed, seconds, 1).events) for seed in itertools.count(HELD_OUT))
        seeds = (seed for seed, of_seed in events if sum(event.time > last for event in of_seed) >= FEWEST_AT_END)
        score = OnsetScore(0, 0, 0)
        for seed in itertools.islice(seeds, clips):
            score += compare(*(times[times > last] for times in _onsets(files, settings, seed, seconds)), TOLERANCE)
        found[f"{seconds:g} s"] = {"f1": score.f1, "matched": score.matched, "found": score.found, "true": score.true}
    return found


def _onsets(files: ModelFiles, settings: Settings, seed: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Heard and true ones of a clip in which one thing acts."""
    clip = make_clip(seed, seconds, things=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_picture(clip, path, preset="ultrafast")
        heard = onsets(generate(files, replace(settings, prompt=clip.caption, seed=seed), path)[0].numpy())
    return np.asarray(heard), np.array([event.time for event in clip.events])


def _windows(files: ModelFiles, seconds: float = SECONDS) -> tuple[Window, ...]:
    """Those that the weights want for such a clip."""
    return plan_windows(latent_frames(seconds), checkpoint.load_transformer(files.transformer).windows)


def _close(times: np.ndarray, moments: np.ndarray, within: float, wanted: bool = True) -> np.ndarray:
    distance = np.abs(np.asarray(times)[:, None] - moments).min(axis=1, initial=np.inf)
    return np.asarray(times)[(distance <= within) == wanted]


def level(files: ModelFiles, settings: Settings, clips: int) -> dict:
    """Of a room's noise, the one steady sound of the small world, and of rolling, which comes and goes."""
    return {name: _level_steps(files, replace(settings, prompt=prompt), clips) for name, prompt in LEVELS.items()}


def _level_steps(files: ModelFiles, settings: Settings, clips: int) -> dict:
    moments = hand_overs(_windows(files))
    between = [statistics.mean(pair) for pair in itertools.pairwise(moments)]
    steps = {"hand-overs": [], "between them": []}
    for seed in range(clips):
        sound = generate(files, replace(settings, seconds=SECONDS, seed=seed))[0].numpy()
        for name, places in (("hand-overs", moments), ("between them", between)):
            steps[name] += [_step(sound, place) for place in places]
    return {name: {
        "mean_db": np.mean(found), "mean_size_db": np.mean(np.abs(found)), "largest_db": np.max(np.abs(found)),
    } for name, found in steps.items()}


def _step(sound: np.ndarray, moment: float, seconds: float = 2.0) -> float:
    """Level in dB behind a moment above that before it."""
    at, reach = round(moment * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    before, after = (np.mean(part**2) + 1e-12 for part in (sound[at - reach : at], sound[at : at + reach]))
    return 10 * float(np.log10(after / before))


def memory(files: ModelFiles, settings: Settings, clips: int) -> dict:
    peaks = {seconds: in_own_process(_peak, files, seconds) for seconds in (60, 600)}
    least = [peak["peak_mb"] - peak["own_mb"] for peak in peaks.values()]
    return {"peaks": peaks, "10 min over 1 min, apart from latents and features": least[1] / least[0]}


def _peak(files: ModelFiles, seconds: int) -> dict:
    torch.set_num_threads(1)
    transformer = checkpoint.load_transformer(files.transformer)
    noise, features = _question(transformer, seconds)
    own = sum(tensor.nbytes for tensor in features.values()) + noise.nbytes
    _run(transformer, noise[..., :400], {}, 1)  # what the first step of all takes
    # A step holds the noise, the latents, the velocity and the next latents.
    found = peak_during(lambda: _run(transformer, noise, features, 2), transformer)
    return {**found, "own_mb": (own - features["visual"].nbytes - features["sync"].nbytes) * 4 / MB}


def _question(transformer, seconds: float):
    sizes, counts = transformer.config, ClipTiming.from_seconds(seconds)
    noise = make_noise(1, sizes.latent_channels, counts.latent_frames, 0)
    return noise, {
        "visual": torch.randn(1, counts.visual_tokens, sizes.visual_dim),
        "sync": torch.randn(1, counts.sync_tokens, sizes.sync_dim),
    }


def _run(transformer, noise, features, steps: int):
    text = torch.zeros(1, 10, transformer.config.text_dim)
    return sample(transformer, noise, text=text, negative_text=text + 1, steps=steps, **features)


def films(files: ModelFiles, settings: Settings, clips: int) -> dict:
    found = {}
    for seconds in FILMS:
        with tempfile.TemporaryDirectory() as folder:
            film, out = Path(folder) / "film.mp4", Path(folder) / "out.mp4"
            write_picture(make_clip(HELD_OUT, seconds), film, preset="ultrafast")
            words = ["generate", "--video", film, "--prompt", "hammering on a wooden block", "--out", out]
            words += ["--models", files.transformer.parent, "--steps", settings.steps]
            found[seconds] = {**in_own_process(_film, list(map(str, words))), "sound_s": media.probe(out).duration}
    short, long = (found[seconds] for seconds in FILMS)
    return {**found, "peak of the longer over that of the shorter": long["peak_mb"] / short["peak_mb"]}


def _film(words: list[str]) -> dict:
    torch.set_num_threads(1)
    start, computed = time.perf_counter(), time.process_time()
    status = cli.main(words)
    assert status == 0, f"generate ended with {status}"
    return {
        "peak_mb": status_mb("VmHWM"), "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - computed,
    }


def duration(files: ModelFiles, settings: Settings, clips: int) -> dict:
    transformer = checkpoint.load_transformer(files.transformer)
    minutes, taken = (0.5, 1, 2, 4, 6, 8, 10), []
    _run(transformer, *_question(transformer, 30), 1)
    for length in minutes:
        question = _question(transformer, 60 * length)
        start = time.process_time()
        _run(transformer, *question, 1)
        taken.append(time.process_time() - start)
    return {"minutes": minutes, "cpu_seconds_of_a_step": taken, "r2": float(np.corrcoef(minutes, taken)[0, 1] ** 2)}


def prompts(files: ModelFiles, settings: Settings, clips: int) -> dict:
    found = {}
    for prompt, (start, end) in ASKED.items():
        timed = tuple(parse(f"0:{start:05.2f}-0:{end:05.2f} {prompt}"))
        heard = [
            onsets(generate(files, replace(settings, timed_prompts=timed, seconds=8.0, seed=seed))[0].numpy())
            for seed in range(clips)
        ]
        times = np.concatenate(heard)
        inside = int(((times > start - 0.1) & (times < end + 0.1)).sum())
        found[prompt] = {"inside": inside, "onsets": len(times), "share": inside / max(len(times), 1)}
    counts = [sum(part[name] for part in found.values()) for name in ("inside", "onsets")]
    return {**found, "share": counts[0] / max(counts[1], 1)}


def cuts(files: ModelFiles, settings: Settings, clips: int) -> dict:
    """Two scenes' latents decoded in a row, cut at several places, against each decoded with its own sound on both sides."""
    vae, transformer, frames = checkpoint.load_vae(files.vae), checkpoint.load_transformer(files.transformer), 200
    scenes = [_run(transformer, make_noise(1, vae.config.latent_channels, frames, seed), {}, 8) for seed in (1, 2)]
    found = [_cut_at(vae, scenes, place) for place in range(50, 150, 10)]
    return {name: {"median": statistics.median(values), "most": max(values)} for name, values in (
        (name, [one[name] for one in found]) for name in found[0]
    )}


def _cut_at(vae, scenes: list[torch.Tensor], place: int) -> dict[str, float]:
    with torch.inference_mode():
        alone = [vae.decode(latents)[0, 0].numpy() for latents in scenes]
        joined = vae.decode(torch.cat((scenes[0][..., :place], scenes[1][..., place:]), dim=-1))[0, 0].numpy()
    cut, near = place * SAMPLE_RATE // LATENT_RATE, SAMPLE_RATE // 100
    before, after = np.abs(joined - alone[0])[:cut][::-1], np.abs(joined - alone[1])[cut:]
    level = max(float(np.sqrt(np.mean(part[cut - SAMPLE_RATE // 5 : cut + SAMPLE_RATE // 5] ** 2))) for part in alone)
    jumps, around = np.abs(np.diff(joined)), np.s_[cut - near : cut + near]
    return {
        "ms the next scene is heard before the cut, above -20 dB of the level there": _reach_ms(before, level / 10),
        "ms the last scene is heard after it, above -20 dB": _reach_ms(after, level / 10),
        "ms before, above -10 dB": _reach_ms(before, level / 10**0.5),
        "ms after, above -10 dB": _reach_ms(after, level / 10**0.5),
        "largest jump between samples within 10 ms over the largest elsewhere":
            float(jumps[around].max() / np.delete(jumps, around).max()),
    }


def _reach_ms(difference: np.ndarray, least: float) -> float:
    return float(np.flatnonzero(difference > least).max(initial=-1) + 1) / SAMPLE_RATE * 1000


MEASURES = {
    "borders": borders, "ends": ends, "level": level, "memory": memory, "films": films, "time": duration, "prompts": prompts,
    "cuts": cuts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--models", type=Path, default=small_model.FOLDER)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--clips", type=int, default=1, help="clips or seeds (1)")
    arguments = parser.parse_args()
    files = find_model_files(arguments.models)
    found = MEASURES[arguments.measure](files, Settings(steps=arguments.steps), arguments.clips)
    say(json.dumps(found, indent=1, default=float))


if __name__ == "__main__":
    main()

"""What the words do: guidance, the negative prompt, the bandwidth tag, and words against the picture, with the small model.

    python scripts/benchmarks/prompts.py                      prints the tables in Markdown
    python scripts/benchmarks/prompts.py docs/prompts.md      and puts them in the place of those that the page has

Held-out clips of the synthetic world get their sound from the same noise each time, 16 steps at shift 5, and are heard by
the judges of docs/evaluation.md. About four minutes on two cores.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))

from hunyuan_foley_core import small_model
from hunyuan_foley_core.conditions import DEFAULT_NEGATIVE_PROMPT, VideoFeatures
from hunyuan_foley_core.data import Clip, make_clip, write_clip
from hunyuan_foley_core.data.captions import ADJECTIVES
from hunyuan_foley_core.data.listening import MaterialClassifier
from hunyuan_foley_core.data.scoring import onsets
from hunyuan_foley_core.evaluation import hearing
from hunyuan_foley_core.evaluation.takes import LISTENING_SEED, first
from hunyuan_foley_core.networks import Networks
from hunyuan_foley_core.pipeline import Settings, find_model_files
from hunyuan_foley_core.timing import latent_frames

CLIPS, LESSONS, SECONDS = 12, 200, 2.0
SETTINGS = Settings(steps=16, shift=5.0)
GUIDANCE, WORDS_ONLY, AGAINST = (1.0, 2.0, 3.0, 4.5, 6.0, 8.0), (1.0, 2.0, 4.5, 8.0), (1.0, 2.0, 4.5, 8.0)
WORDS = ("heard as named", "loudness, peak (dBFS)", "words only: heard as named")
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
OTHERS = dict(zip(ADJECTIVES, [*list(ADJECTIVES)[1:], *list(ADJECTIVES)[:1]], strict=True))  # each material's stand-in


@dataclass(frozen=True)
class Asked:
    """What a sound is made from, beside the clip.

    Attributes:
        prompt, negative: what becomes of a clip's caption.
        seen: whether the picture is given too.
    """

    prompt: Callable[[Clip], str] = lambda clip: clip.caption
    negative: Callable[[Clip], str] = lambda clip: DEFAULT_NEGATIVE_PROMPT
    guidance: float = SETTINGS.guidance_scale
    tag: bool = True
    seen: bool = True


class Bench:
    """Makes sounds for the clips and hears them, each way of asking once."""

    def __init__(self, clips: int, lessons: int):
        self.networks = Networks(find_model_files(small_model.FOLDER), SETTINGS)
        self.clips = [take.clip() for take in first(clips, seconds=SECONDS, where=names_its_one_material)]
        self.features = [watch(self.networks, clip) for clip in self.clips]
        lessons = (make_clip(seed, SECONDS) for seed in range(LISTENING_SEED, LISTENING_SEED + lessons))
        self.judge = MaterialClassifier(lessons)
        self.sounds = lru_cache(maxsize=None)(self._sounds)

    def _sounds(self, asked: Asked) -> list[np.ndarray]:
        """A waveform [N] for each clip."""
        self.networks.settings = replace(SETTINGS, guidance_scale=asked.guidance, tag=asked.tag)
        frames, made = latent_frames(SECONDS), []
        for clip, features in zip(self.clips, self.features, strict=True):
            latents = self.networks.make(
                asked.prompt(clip), asked.negative(clip), features if asked.seen else None, frames, seed=clip.scene.seed
            )
            made.append(self.networks.decode(latents)[0, 0].numpy())
        return made

    def heard(self, asked: Asked) -> list[hearing.Hearing]:
        return [hearing.listen(clip, sound, self.judge) for clip, sound in zip(self.clips, self.sounds(asked), strict=True)]

    def timing(self, asked: Asked) -> str:
        """Onset F1 against the picture's events, and how many onsets there are for one event."""
        score = hearing.onset_score(self.heard(asked))
        return f"{score.f1:.2f} ({score.found / score.true:.1f})"

    def share(self, asked: Asked, wanted: Callable[[Clip], str]) -> str:
        """Of the onsets that are heard, the share that sounds like the material wanted of the clip."""
        right = [
            name == wanted(clip) for clip, sound in zip(self.clips, self.sounds(asked), strict=True)
            for name in self.judge(sound, onsets(sound))
        ]
        return f"{np.mean(right):.2f}" if right else "nothing heard"

    def level(self, asked: Asked) -> str:
        """Median loudness and peak, in dB of full scale."""
        sounds = self.sounds(asked)
        loud, peak = (np.median([20 * np.log10(of(sound) + 1e-9) for sound in sounds]) for of in (rms, peak_of))
        return f"{loud:.0f}, {peak:.0f}"

    def above(self, asked: Asked, frequency: float) -> str:
        return f"{np.median([hearing.energy_above(sound, frequency) for sound in self.sounds(asked)]):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path, help=f"a page with the lines {BEGIN} and {END}")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--lessons", type=int, default=LESSONS, help="true sounds that the judge of materials hears first")
    arguments = parser.parse_args()
    text = "\n".join(tables(Bench(arguments.clips, arguments.lessons)))
    sys.stdout.write(f"{text}\n")
    if arguments.page:
        put(text, arguments.page)


def tables(bench: Bench) -> Iterable[str]:
    yield from (f"{len(bench.clips)} clips, {sum(len(clip.events) for clip in bench.clips)} events:", "")
    yield from guidance_table(bench)
    yield from against_table(bench)
    yield from negative_table(bench)
    yield from tag_table(bench)


def guidance_table(bench: Bench) -> Iterable[str]:
    yield from head("guidance", "onset F1 (onsets for one event)", *WORDS)
    for scale in GUIDANCE:
        asked = Asked(guidance=scale)
        words = bench.share(replace(asked, seen=False), material) if scale in WORDS_ONLY else ""
        yield row(f"{scale:g}", bench.timing(asked), bench.share(asked, material), bench.level(asked), words)
    yield ""


def against_table(bench: Bench) -> Iterable[str]:
    yield from head("guidance, another material named than shown", "onset F1", "heard as named", "heard as shown")
    for scale in AGAINST:
        asked = Asked(prompt=other_caption, guidance=scale)
        named = bench.share(asked, lambda clip: OTHERS[material(clip)])
        yield row(f"{scale:g}", bench.timing(asked), named, bench.share(asked, material))
    yield ""


def negative_table(bench: Bench) -> Iterable[str]:
    yield from head("negative prompt", "onset F1", *WORDS)
    ways = {
        f'"{DEFAULT_NEGATIVE_PROMPT}" (default)': lambda clip: DEFAULT_NEGATIVE_PROMPT,
        "empty": lambda clip: "",
        "the caption of another material": other_caption,
        "the prompt itself": lambda clip: clip.caption,
    }
    for name, negative in ways.items():
        asked = Asked(negative=negative)
        words = bench.share(replace(asked, seen=False), material)
        yield row(name, bench.timing(asked), bench.share(asked, material), bench.level(asked), words)
    yield ""


def tag_table(bench: Bench) -> Iterable[str]:
    yield from head("bandwidth tag", "above 8 kHz (dB)", "above 16 kHz (dB)", "onset F1", "heard as named")
    for name, tag in {"high-quality (default)": True, "none": False}.items():
        asked = Asked(tag=tag)
        yield row(
            name, bench.above(asked, 8000), bench.above(asked, 16000), bench.timing(asked), bench.share(asked, material)
        )


def material(clip: Clip) -> str:
    (name,) = {actor.material for actor in clip.scene.actors}
    return name


def names_its_one_material(clip: Clip) -> bool:
    materials = {actor.material for actor in clip.scene.actors}
    return bool(clip.events) and len(materials) == 1 and any(word in clip.caption for word in ADJECTIVES[min(materials)])


def other_caption(clip: Clip) -> str:
    """The caption with another material in the place of its own."""
    words = sorted(ADJECTIVES[material(clip)], key=len, reverse=True)
    return re.sub(rf"\ban? ({'|'.join(words)})\b", f"a {ADJECTIVES[OTHERS[material(clip)]][0]}", clip.caption)


def watch(networks: Networks, clip: Clip) -> VideoFeatures:
    with tempfile.TemporaryDirectory() as folder:
        write_clip(clip, Path(folder) / "clip.mp4")
        return networks.watch(Path(folder) / "clip.mp4", 0.0, SECONDS)


def rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound))))


def peak_of(sound: np.ndarray) -> float:
    return float(np.abs(sound).max())


def head(*cells: str) -> Iterable[str]:
    yield row(*cells)
    yield "|---" * len(cells) + "|"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def put(text: str, page: Path) -> None:
    """Replaces what stands between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} lacks the lines {BEGIN} and {END}.")
    partial = page.with_suffix(".partial")
    partial.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    partial.replace(page)


if __name__ == "__main__":
    main()

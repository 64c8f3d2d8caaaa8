"""How well a small network finds the hits in a clip from what changes between its pictures, however that is laid out.

    python scripts/sync_layout.py [CLIPS]    (700 by default, the last 100 held out; about two minutes on one core)

The layouts are those that the transformer could be given: picture by picture, and as Synchformer's tokens. What is printed is
the area under the curve on the held-out clips; docs/evaluation.md says what follows from it.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parent.parent))

from hunyuan_foley_core import ops
from hunyuan_foley_core.data import Clip, make_clip
from hunyuan_foley_core.model.rope import nearest_indices
from hunyuan_foley_core.timing import LATENT_RATE, SEGMENT_HOP, SEGMENT_TOKENS, SYNC_RATE, sync_segments

SECONDS, FIRST_SEED, HELD_OUT, SIZE = 2.0, 400_000, 100, 48
FRAMES, LATENTS = int(SECONDS * SYNC_RATE), int(SECONDS * LATENT_RATE)
SEGMENTS = sync_segments(FRAMES)
TOKENS = nearest_indices(SEGMENTS * SEGMENT_TOKENS, LATENTS, "cpu")  # the token that each latent frame gets
STILL, MOVED = 1e-4, 0.03  # levels of change: nothing, and something
UPDATES, BATCH = 800, 512


def change(clip: Clip) -> Tensor:
    """[FRAMES,5]: how much changes towards each picture, the logarithm of that, how much of the picture, and where."""
    pictures = torch.stack(list(clip.frames())).float() / 255
    moved = torch.cat([torch.zeros_like(pictures[:1]), pictures.diff(dim=0)]).abs().mean(1)
    total = moved.mean((1, 2))
    across = torch.linspace(-1, 1, SIZE)
    x, y = ((moved * place).mean((1, 2)) / (total + STILL) for place in (across, across[:, None]))
    return torch.stack([total, (total + STILL).log(), (moved > MOVED).float().mean((1, 2)), x, y], 1)


def hits(clip: Clip) -> Tensor:
    """[LATENTS]: 1 within a latent frame of a hit."""
    found = torch.zeros(LATENTS)
    for event in clip.events:
        frame = int(event.time * LATENT_RATE)
        found[max(0, frame - 1) : frame + 2] = 1
    return found


def around(values: Tensor, reach: int) -> Tensor:
    """Each row [T,D] with those up to `reach` before and after it, beside one another."""
    return torch.cat([values.roll(step, 0) for step in range(-reach, reach + 1)], 1)


def tokens(pictures) -> Tensor:
    """The pictures that each token shows, [S,n], from those of a time step within the segment."""
    return torch.tensor([
        [SEGMENT_HOP * segment + picture for picture in pictures(step)]
        for segment in range(SEGMENTS) for step in range(SEGMENT_TOKENS)
    ])


OWN, INSIDE = tokens(lambda j: (2 * j, 2 * j + 1)), tokens(lambda j: (2 * j + 1,))
PLACED = tokens(lambda j: (2 * (j // 2), 2 * (j // 2) + 1))
AHEAD = tokens(lambda j: range(j + 1, j + 9))  # as `train/drawn_synchformer.py` draws them
WHERE = torch.linspace(-1, 1, LATENTS)[:, None] ** torch.arange(1, 4)
EXACT = (torch.arange(len(OWN)) * FRAMES / len(OWN)).long()
LAYOUTS = {
    "eleven pictures": lambda values: around(values, 5)[torch.arange(LATENTS) * SYNC_RATE // LATENT_RATE],
    "nine tokens": lambda values: around(values[OWN].flatten(1), 4)[TOKENS],
    "nine tokens, change inside them only": lambda values: around(values[INSIDE].flatten(1), 4)[TOKENS],
    "nine tokens, with their place": lambda values: around(values[torch.cat([OWN, PLACED], 1)].flatten(1), 4)[TOKENS],
    "nine tokens of eight changes ahead": lambda values: around(values[AHEAD].flatten(1), 4)[TOKENS],
    "the same, and where in the clip": lambda values: torch.cat([around(values[AHEAD].flatten(1), 4)[TOKENS], WHERE], 1),
    "nine tokens at their true place": lambda values: around(values[EXACT], 4)[TOKENS],
}


def area(layout, seen: list[Tensor], truth: Tensor) -> float:
    """Area under the curve on the clips held out, of a network that learned from the others."""
    inputs = torch.stack([layout(values) for values in seen])
    learned, asked = inputs[:-HELD_OUT].flatten(0, 1), inputs[-HELD_OUT:].flatten(0, 1)
    mean, spread = learned.mean(0), learned.std(0) + 1e-5
    learned, asked = (learned - mean) / spread, (asked - mean) / spread
    torch.manual_seed(0)
    network = nn.Sequential(ops.Linear(learned.shape[1], 64), nn.SiLU(), ops.Linear(64, 1))
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.1)
    answers = truth[:-HELD_OUT].flatten()
    for _ in range(UPDATES):
        chosen = torch.randint(len(learned), (BATCH,))
        guess = network(learned[chosen])[:, 0]
        nn.functional.binary_cross_entropy_with_logits(guess, answers[chosen]).backward()
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        return auc(network(asked)[:, 0], truth[-HELD_OUT:].flatten())


def auc(guesses: Tensor, truth: Tensor) -> float:
    """How often a moment with a hit is guessed higher than one without."""
    ranks = guesses.argsort().argsort().double() + 1
    there = truth.sum().item()
    return (ranks[truth > 0].sum().item() - there * (there + 1) / 2) / (there * (len(truth) - there))


def main(clips: int) -> None:
    drawn = [make_clip(FIRST_SEED + number, SECONDS, SYNC_RATE, (SIZE, SIZE)) for number in range(clips)]
    seen, truth = [change(clip) for clip in drawn], torch.stack([hits(clip) for clip in drawn])
    for name, layout in LAYOUTS.items():
        sys.stdout.write(f"{name:40} {area(layout, seen, truth):.3f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 700)

"""Synchformer's tower with weights set by hand, which measure how much moves and when.

Trained to foretell the sound, at this size and in minutes, the tower did worse than so: the quickest way to a smaller
error was to forget the picture. How much moves tells most; scripts/sync_layout.py measures how well hits can be found from it.

Segments overlap by half, and the transformer stretches a clip's tokens evenly over the clip. So token j of
segment s stands up to 0.4 s later than picture 8 s + j, by an amount that grows from the start of the clip to its end. Each
token therefore tells how much moved in each of the `OFFSETS` pictures after that one: whatever its place in the clip, the
moment at which it stands is among them or among its neighbours', and what a token says at one offset continues evenly from
token to token and from segment to segment.
"""

import math
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..config import SynchformerConfig
from ..encoders.synchformer import SynchformerVisualTower
from .errors import TrainingError

# What the tower has to be for the weights below.
SYNCHFORMER = SynchformerConfig(
    hidden_size=128, num_heads=2, num_blocks=4, mlp_hidden=192, aggregator_mlp_hidden=96, patch_size=8, tubelet_size=2,
    image_size=48, time_steps=8,
)
WIDTH, HEADS, STEPS = SYNCHFORMER.hidden_size, SYNCHFORMER.num_heads, SYNCHFORMER.time_steps
HEAD = WIDTH // HEADS
BOX = 2  # pixels a side: a patch is seen as the brightness of its boxes
BOXES = (SYNCHFORMER.patch_size // BOX) ** 2
OFFSETS = 8  # pictures ahead that a token tells of
LOOKED_UP = OFFSETS // 2 + 1  # time steps, two changes each, of which an even and an odd token take eight

# Channels of a patch's token: the boxes in its two pictures, those in the next time step's first, the second again as it is
# after the same normalisation; which time step; two large constants, which make every LayerNorm divide by the same; nothing,
# which tells what a LayerNorm took off; how much moves within the time step and from it to the next, as a sum and as a share
# of the boxes; the same of the time steps looked up; and of the pictures ahead.
_SIZES = {
    "first": BOXES, "second": BOXES, "next": BOXES, "held": BOXES, "step": STEPS, "anchor": 2, "nothing": 1,
    "moves": 4, "looked_up": 4 * LOOKED_UP, "ahead": 2 * OFFSETS,
}
_ENDS = dict(zip(_SIZES, torch.tensor(list(_SIZES.values())).cumsum(0).tolist(), strict=True))
PATCH = MappingProxyType({name: slice(_ENDS[name] - size, _ENDS[name]) for name, size in _SIZES.items()})

ANCHOR = 40.0
SPREAD = ANCHOR * math.sqrt(2 / WIDTH)  # by which LayerNorm divides, whatever is seen
POINTER = 14.0  # makes attention to one time step all but exclusive
CHANGE = 20.0  # per level of brightness in -1..1: a change of 0.05 counts, the noise of a codec hardly
MOVED = (1.5, 3.0)  # of a box changed that much: not at all, wholly
STILL_SHARE = 0.128  # brings the share of a still picture to 0: GELU is a little below 0 there
MOVE = 0.2  # keeps sums of change small beside the anchor
OPEN, SHUT = 4.0, 40.0  # GELU passes on what OPEN is added to as it is, and nothing that SHUT is taken from

# Channels of a finished token: what moves ahead, its time step, and what moves ahead as a logarithm would show it.
AHEAD = slice(0, 2 * OFFSETS)
TOKEN_STEP = slice(AHEAD.stop, AHEAD.stop + STEPS)
SLOPES = (4.0, 12.0, 36.0, 108.0, 324.0, 972.0)
RAMPS = slice(TOKEN_STEP.stop, TOKEN_STEP.stop + OFFSETS * len(SLOPES))
GAIN, RAMP = 32.0, 2.0


@torch.no_grad()
def draw_synchformer(tower: SynchformerVisualTower) -> None:
    """Weights that make of each time step's pictures a token of how much moves in the pictures after them.

    Raises:
        TrainingError: the tower is not of the sizes that the weights are made for.
    """
    _check_sizes(tower.config)
    extractor = tower.vfeat_extractor
    for key, parameter in tower.named_parameters():
        nn.init.ones_(parameter) if parameter.ndim == 1 and key.endswith("weight") else nn.init.zeros_(parameter)
    _see_boxes(extractor.patch_embed_3d.proj.weight)
    _mark_steps(extractor)
    _fetch_next(extractor.blocks[0].timeattn)
    _measure_change(extractor.blocks[0].mlp)
    _look_ahead([block.timeattn for block in extractor.blocks[1:]])
    _line_up(extractor.blocks[-1].mlp)
    _gather(extractor.spatial_attn_agg)
    _add_ramps(extractor.spatial_attn_agg)


def _check_sizes(config: SynchformerConfig) -> None:
    differing = [
        f"{name} is {getattr(config, name)}, not {value}"
        for name, value in vars(SYNCHFORMER).items() if getattr(config, name) != value
    ]
    if differing:
        raise TrainingError(
            f"[model.synchformer] has other sizes than the tower that is drawn: {'; '.join(differing)}.",
            "The weights of this tower are set for one size, that of configs/encoders_tiny.toml.", "Use those sizes.",
        )


def _see_boxes(filters: Tensor) -> None:
    """Filters [D,3,2,h,w]: the mean brightness of each box in the first and in the second picture."""
    across = filters.shape[-1] // BOX
    for box in range(BOXES):
        row, column = BOX * (box // across), BOX * (box % across)
        for picture, name in enumerate(("first", "second")):
            filters[PATCH[name].start + box, :, picture, row : row + BOX, column : column + BOX] = 1 / (3 * BOX**2)


def _mark_steps(extractor: nn.Module) -> None:
    """Time steps as one of eight, and the anchor."""
    extractor.temp_embed[0, :, PATCH["step"]] = SPREAD * torch.eye(STEPS)
    extractor.pos_embed[0, :, PATCH["anchor"]] = ANCHOR * torch.tensor([1.0, -1.0])


def _point(attention: nn.Module, head: int, wanted) -> None:
    """Lets a head of time step j look at time step wanted(j) alone."""
    for step in range(STEPS):
        attention.qkv.weight[HEAD * head + min(wanted(step), STEPS - 1), PATCH["step"].start + step] = POINTER
        attention.qkv.weight[WIDTH + HEAD * head + step, PATCH["step"].start + step] = POINTER


def _copy(attention: nn.Module, head: int, source: slice, target: slice) -> None:
    """Lets a head bring channels over, less the channel of nothing, and at the size they had before the LayerNorm."""
    brought = slice(HEAD * head, HEAD * head + source.stop - source.start)
    values = attention.qkv.weight[2 * WIDTH :]
    values[brought, source] = torch.eye(source.stop - source.start)
    values[brought, PATCH["nothing"]] = -1
    attention.proj.weight[target, brought] = SPREAD * torch.eye(source.stop - source.start)


def _fetch_next(attention: nn.Module) -> None:
    """The next time step's first picture, and beside it the own second one, which came the same way."""
    _point(attention, 0, lambda step: step + 1)
    _copy(attention, 0, PATCH["first"], PATCH["next"])
    _point(attention, 1, lambda step: step)
    _copy(attention, 1, PATCH["second"], PATCH["held"])


def _measure_change(mlp: nn.Module) -> None:
    """GELU(x) + GELU(-x) is near |x|, and near 0 for a small x; GELU(x - a) - GELU(x - b) grows from 0 to b - a."""
    unit, moves = 0, PATCH["moves"].start
    for way, (before, after) in enumerate((("first", "second"), ("held", "next"))):
        for sign in (1, -1):
            for least, sum_weight, share_weight in ((0.0, 1, 0), (MOVED[0], 0, 1), (MOVED[1], 0, -1)):
                units = slice(unit, unit + BOXES)
                mlp.fc1.weight[units, PATCH[after]] = sign * SPREAD * CHANGE * torch.eye(BOXES)
                mlp.fc1.weight[units, PATCH[before]] = -sign * SPREAD * CHANGE * torch.eye(BOXES)
                mlp.fc1.bias[units] = -least
                mlp.fc2.weight[moves + way, units] = sum_weight * MOVE / BOXES
                mlp.fc2.weight[moves + 2 + way, units] = share_weight / (MOVED[1] - MOVED[0]) / BOXES
                unit = units.stop
    mlp.fc2.bias[moves + 2 : moves + 4] = STILL_SHARE


def _look_ahead(attentions: list[nn.Module]) -> None:
    """What moves in the time steps from the one on whose first or second picture has the token's number."""
    for ahead in range(LOOKED_UP):
        block, head = divmod(ahead, HEADS)
        start = PATCH["looked_up"].start + 4 * ahead
        _point(attentions[block], head, lambda step, ahead=ahead: step // 2 + ahead)
        _copy(attentions[block], head, PATCH["moves"], slice(start, start + 4))


def _line_up(mlp: nn.Module) -> None:
    """Of the changes looked up, an even token takes those from the first on, an odd one those from the second on."""
    unit = 0
    for kind in range(2):
        for offset in range(OFFSETS):
            target = PATCH["ahead"].start + OFFSETS * kind + offset
            for parity in range(2):
                step, way = divmod(offset + parity, 2)
                mlp.fc1.weight[unit, PATCH["looked_up"].start + 4 * step + 2 * kind + way] = SPREAD
                mlp.fc1.weight[unit, PATCH["nothing"]] = STEPS // 2 * SHUT - SPREAD
                others = slice(PATCH["step"].start + 1 - parity, PATCH["step"].stop, 2)
                mlp.fc1.weight[unit, others] = -SHUT
                mlp.fc1.bias[unit] = OPEN
                mlp.fc2.weight[target, unit] = 1.0
                unit += 1
            mlp.fc2.bias[target] = -OPEN


def _gather(aggregator: nn.Module) -> None:
    """All queries are 0, so a token takes the mean of its patches: what moves ahead, and the time step."""
    attention = aggregator.self_attn
    values = attention.in_proj_weight[2 * WIDTH :]
    values[AHEAD, PATCH["ahead"]] = SPREAD * torch.eye(2 * OFFSETS)
    values[AHEAD, PATCH["nothing"]] = -SPREAD
    attention.out_proj.weight[AHEAD, AHEAD] = GAIN * torch.eye(2 * OFFSETS)
    values[TOKEN_STEP, PATCH["step"]] = torch.eye(STEPS)
    attention.out_proj.weight[TOKEN_STEP, TOKEN_STEP] = torch.eye(STEPS)


def _add_ramps(aggregator: nn.Module) -> None:
    """Ramps of several slopes of how much moves ahead; the anchor is taken off again."""
    anchor, nothing = slice(WIDTH - 2, WIDTH), WIDTH - 3
    constants = ANCHOR * torch.tensor([1.0, -1.0])
    aggregator.self_attn.out_proj.bias[anchor] = constants
    aggregator.linear2.bias[anchor] = -constants
    for number, slope in enumerate(SLOPES):
        for offset in range(OFFSETS):
            unit, target = 2 * (OFFSETS * number + offset), RAMPS.start + OFFSETS * number + offset
            for above, sign in ((0.0, 1.0), (RAMP, -1.0)):
                aggregator.linear1.weight[unit, offset] = SPREAD * slope / GAIN
                aggregator.linear1.weight[unit, nothing] = -SPREAD * slope / GAIN
                aggregator.linear1.bias[unit] = -above
                aggregator.linear2.weight[target, unit] = sign
                unit += 1
            aggregator.linear2.bias[target] = -RAMP / 2

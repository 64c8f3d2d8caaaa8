"""What things are made of: how they bounce and how they ring."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """Numbers of one material; chosen so that the five are told apart by ear, not measured on real things.

    Attributes:
        restitution: lowest and highest share of the speed that a ball keeps when it bounces.
        base: frequency of the lowest mode in Hz.
        ratios: frequencies of the modes over that of the lowest.
        ring: seconds in which the lowest mode falls by 60 dB.
        damping: how much sooner the higher ones do: by 1 + damping * (ratio - 1).
        brightness: Hz above which a contact at 1 m/s excites little; hard contacts reach further.
        click: level of the contact's noise beside the modes.
    """

    restitution: tuple[float, float]
    base: float
    ratios: tuple[float, ...]
    ring: float
    damping: float
    brightness: float
    click: float


MATERIALS = {
    # A free bar: far apart, inharmonic, dead within a tenth of a second.
    "wood": Material((0.38, 0.5), 330, (1, 2.76, 5.40, 8.93, 13.34), 0.17, 0.25, 3500, 0.25),
    # Bell-like and dense, long.
    "metal": Material(
        (0.5, 0.65), 620, (1, 1.51, 2.0, 2.67, 3.36, 4.1, 5.3, 6.8, 8.6, 10.9, 13.6, 17.0), 1.5, 0.12, 9000, 0.15
    ),
    # The bending modes of a cup: high and few.
    "glass": Material((0.5, 0.65), 2100, (1, 2.32, 4.25, 6.63), 0.45, 0.3, 12000, 0.2),
    "rubber": Material((0.72, 0.85), 95, (1, 1.58, 2.24, 2.92), 0.12, 0.3, 400, 0.12),
    # Close together and gone at once, mostly the contact's noise.
    "stone": Material((0.25, 0.38), 900, (1, 1.28, 1.72, 2.2, 2.9, 3.5, 4.4, 5.6, 7.1), 0.045, 0.1, 7000, 0.6),
}

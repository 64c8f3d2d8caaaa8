"""The ways of generating that are compared: precision, device memory, length, batch, compiled or not."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

PRECISIONS = ("bf16", "fp8", "fp8_scaled")
CAPS = (None, 12, 8, 6, 4, 0)  # GB of device memory; None: all there is; 0: no weight stays on the device
SECONDS, BATCHES = (4, 8, 15), (1, 4)

EVERYTHING = ("*",)
# What is run where nothing is asked for; everything takes hours, on a GPU because of the streamed weights.
ON_A_CPU = ("*-8s-x1", "bf16-full-8s-*")
ON_A_GPU = ("*-full-*", "*-8s-x1*")


@dataclass(frozen=True)
class Configuration:
    """One way of generating.

    Attributes:
        cap: GB (1e9 bytes) of device memory; None: all there is; 0: every weight is streamed.
        batch: sounds at once.
    """

    precision: str
    cap: int | None
    seconds: int
    batch: int
    compiled: bool

    @property
    def placement(self) -> str:
        return {None: "full", 0: "streamed"}.get(self.cap, f"{self.cap}GB")

    @property
    def name(self) -> str:
        ending = "-compiled" if self.compiled else ""
        return f"{self.precision}-{self.placement}-{self.seconds}s-x{self.batch}{ending}"


ALL = tuple(Configuration(*values) for values in product(PRECISIONS, CAPS, SECONDS, BATCHES, (False, True)))


def choose(patterns: tuple[str, ...]) -> list[Configuration]:
    """The configurations whose names match one of the patterns (`*` stands for anything), in the order of these.

    Raises:
        ValueError: a pattern that matches none.
    """
    unknown = [pattern for pattern in patterns if not any(fnmatchcase(one.name, pattern) for one in ALL)]
    if unknown:
        raise ValueError(f"no configuration is called {', '.join(unknown)}; `--list` shows all")
    return list(dict.fromkeys(one for pattern in patterns for one in ALL if fnmatchcase(one.name, pattern)))

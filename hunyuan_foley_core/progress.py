"""Progress on stderr for the commands."""

import sys

WIDTH = 30


class ProgressBar:
    """One line on stderr, rewritten in place on a terminal and written once per stage elsewhere."""

    def __init__(self):
        self.stage, self.live, self.line = None, sys.stderr.isatty(), ""

    def __call__(self, stage: str, done: float, total: float) -> None:
        share = min(1.0, done / total) if total else 1.0
        if stage != self.stage:
            self.close()
            self.stage = stage
            if not self.live:
                sys.stderr.write(f"{stage} ...\n")
        filled = round(share * WIDTH)
        line = f"\r{stage:20} [{'#' * filled}{'-' * (WIDTH - filled)}] {share:4.0%}"
        if self.live and line != self.line:  # a download calls this a hundred thousand times
            self.line = line
            sys.stderr.write(line)
        sys.stderr.flush()

    def close(self) -> None:
        if self.live and self.stage is not None:
            sys.stderr.write("\n")
        self.stage = None

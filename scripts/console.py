"""What `run.py` shows while it works: one line per step with its seconds, and what the step is doing now."""

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

HEARTBEAT = 15.0  # seconds between two lines where a line cannot be rewritten (a log file, CI)
LAST_LINES = 15  # of a failed command's output


def say(line: str) -> None:
    """Prints at once, also into a pipe: these commands run for minutes."""
    print(line, flush=True)


class Step:
    """A step under way."""

    def __init__(self, title: str):
        self.title = title
        self.started = self.shown = time.monotonic()
        self.rewrites = sys.stdout.isatty()

    def update(self, doing: str) -> None:
        """Shows what is being done, as often as is readable; call it as often as there is news, or more."""
        now = time.monotonic()
        if now - self.shown < (0.2 if self.rewrites else HEARTBEAT):
            return
        self.shown = now
        line = f"  {now - self.started:4.0f} s  {doing}"
        if self.rewrites:
            print(f"\r\033[K{self.title} {line}"[:118], end="", flush=True)
        else:
            say(line[:118])

    def end(self, outcome: str) -> None:
        start = "\r\033[K" if self.rewrites else ""
        say(f"{start}{self.title}: {outcome}, {time.monotonic() - self.started:.1f} s")


@contextlib.contextmanager
def step(title: str):
    """Yields a Step and prints, at the end, its title with the seconds it took."""
    current = Step(title)
    if not current.rewrites:
        say(f"{title} ...")
    try:
        yield current
    except BaseException:
        current.end("not finished")
        raise
    current.end("done")


def run_logged(command: list[str], log: Path, current: Step) -> None:
    """Runs `command`; its output goes to the end of `log`, its latest line but warnings to the step.

    Raises:
        subprocess.CalledProcessError: it failed; `output` holds its last lines.
    """
    lines: list[str] = []
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace",
        )
        reader = threading.Thread(target=_copy_lines, args=(process.stdout, file, lines))
        reader.start()
        try:
            while process.poll() is None:
                current.update(lines[-1] if lines else "")
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait()
            reader.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, "\n".join(lines[-LAST_LINES:]))


def _copy_lines(source, file, lines: list[str]) -> None:
    for line in source:
        file.write(line)
        if line.strip() and not line.startswith("WARNING"):
            lines.append(line.strip())

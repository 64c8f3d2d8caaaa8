"""What `comfy node publish` puts into its zip: the files that git tracks, less those that .comfyignore names.

    python scripts/published.py [FILE.zip]    writes it (default: output/hunyuan-foley.zip) and says how much it holds
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from console import say

ROOT = Path(__file__).resolve().parent.parent
IGNORED, DEFAULT = ".comfyignore", ROOT / "output" / "hunyuan-foley.zip"
MADE = ("output", "__pycache__")


def main() -> None:
    target = Path(sys.argv[1]) if sys.argv[1:] else DEFAULT
    found = write(target)
    size = sum((ROOT / name).stat().st_size for name in found)
    say(f"{target}: {len(found)} files, {size / 1e6:.1f} MB unpacked, {target.stat().st_size / 1e6:.1f} MB packed")


def files() -> list[str]:
    """Paths relative to the repository, in order."""
    rules = ignored()
    return sorted(name for name in tracked() if (ROOT / name).is_file() and not is_left_out(f"/{name}", rules))


def tracked() -> list[str]:
    """What git tracks; without git, or in a copy that is no checkout, every file that is not made by running something."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        return [path.as_posix() for path in found if not any(part in MADE or part[0] == "." for part in path.parts)]
    return listed.strip("\0").split("\0")


def is_left_out(path: str, rules: list[str]) -> bool:
    """Whether the last rule that fits leaves it out: `/folder/`, `/folder/*` or `/file`; with `!` before it, it stays."""
    fitting = [rule for rule in rules if fits(path, rule.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")


def fits(path: str, rule: str) -> bool:
    return path.startswith(rule.removesuffix("*")) if rule.endswith(("/", "/*")) else path == rule


def ignored() -> list[str]:
    """The rules of .comfyignore, which begin at the root.

    Raises:
        ValueError: for other patterns, which comfy-cli knows and this does not.
    """
    lines = [line.strip() for line in (ROOT / IGNORED).read_text().splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    unknown = [rule for rule in rules if not re.fullmatch(r"!?/[^*?\[\]\\]+(/\*)?", rule)]
    if unknown:
        raise ValueError(f"{IGNORED} holds {', '.join(unknown)}: write /folder/, /folder/* or /file, perhaps after !.")
    return rules


def write(target: Path) -> list[str]:
    """Writes the zip and returns what is in it."""
    found, partial = files(), target.with_suffix(".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in found:
            archive.write(ROOT / name, name)
    partial.replace(target)
    return found


if __name__ == "__main__":
    main()

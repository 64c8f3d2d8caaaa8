"""What `comfy node publish` puts into its zip: the files that git tracks, less those that .comfyignore names.

    python scripts/published.py [FILE.zip]    writes it (default: output/hunyuan-foley.zip) and says how much it holds
"""

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
    kept = (name for name in tracked() if not any(is_below(f"/{name}", rule) for rule in rules))
    return sorted(name for name in kept if (ROOT / name).is_file())


def tracked() -> list[str]:
    """What git tracks; without git, or in a copy that is no checkout, every file that is not made by running something."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        return [path.as_posix() for path in found if not any(part in MADE or part[0] == "." for part in path.parts)]
    return listed.strip("\0").split("\0")


def is_below(path: str, rule: str) -> bool:
    return path.startswith(rule) if rule.endswith("/") else path == rule


def ignored() -> tuple[str, ...]:
    """The lines of .comfyignore: `/folder/` or `/file`, from the root.

    Raises:
        ValueError: for other patterns, which comfy-cli knows and this does not.
    """
    lines = [line.strip() for line in (ROOT / IGNORED).read_text().splitlines()]
    rules = tuple(line for line in lines if line and not line.startswith("#"))
    unknown = [rule for rule in rules if not rule.startswith("/") or set(rule) & set("*?[!\\")]
    if unknown:
        raise ValueError(f"{IGNORED} holds {', '.join(unknown)}: write /folder/ or /file.")
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

"""What a file is by its first bytes, where that is not what its name says. Nothing of it is run."""

import zipfile
from pathlib import Path

from .errors import CheckpointError, DamagedFileError, UnsafeFileError

SAFETENSORS, TORCH = (".safetensors", ".sft"), (".pth", ".pt", ".bin", ".ckpt")
LFS_POINTER = b"version https://git-lfs"
GGUF = b"GGUF"
# A zip archive, or the pickles of torch before 1.6.
TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9")
LONGEST_HEADER = 100_000_000  # that the format allows, in bytes
ENOUGH = 64


def right_suffix(path: Path) -> str:
    """The file's own, unless its first bytes are those of the other format of weights."""
    start, suffix = _start(path), path.suffix.lower()
    if suffix in TORCH and _is_safetensors(start):
        return SAFETENSORS[0]
    if suffix in SAFETENSORS and start.startswith(TORCH_STARTS):
        return TORCH[0]
    return path.suffix


def check(path: Path) -> None:
    """A CheckpointError for what is no weights at all, or weights under the name of another format."""
    start = _start(path)
    if start.startswith(LFS_POINTER):
        raise DamagedFileError(
            f"{path.name} is a Git LFS pointer: {path.stat().st_size:,} bytes that stand for the file.",
            "Expected the weights themselves.", "Run `git lfs pull` in its folder, or download the file itself.",
        )
    if start.startswith(GGUF):
        raise CheckpointError(
            f"{path.name} is a GGUF file.", f"Read are {', '.join((*SAFETENSORS, *TORCH))} in fp32, bf16, fp16 and fp8.",
            "Take the file that it was made of; fp8 is the smallest that this pack reads.",
        )
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise DamagedFileError(
            f"{path.name} ({path.stat().st_size:,} bytes) is a web page that was saved under this name.",
            "Expected the weights themselves.",
            "Open it in a text editor to see what the server said; delete it and download the file again.",
        )
    if start.startswith(TORCH_STARTS) and _is_torchscript(path):
        # Before torch sees it: before 2.6 it runs the program, whatever it was asked.
        raise UnsafeFileError(
            f"{path.name} is a TorchScript archive: a program with its weights.", "Expected the weights alone.",
            "Use a .safetensors file, or save its state dict with the program that wrote it.",
        )
    suffix = right_suffix(path)
    if suffix != path.suffix:
        raise CheckpointError(
            f"{path.name} is a {'safetensors' if suffix in SAFETENSORS else 'torch'} file by what it holds.",
            f"Expected the format of its suffix, {path.suffix}.", f"Rename it to {path.with_suffix(suffix).name}.",
        )


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _start(path: Path) -> bytes:
    """Nothing of a file that cannot be read: whoever reads all of it says so."""
    try:
        with open(path, "rb") as file:
            return file.read(ENOUGH)
    except OSError:
        return b""


def _is_safetensors(start: bytes) -> bool:
    """It begins with the length of a header in JSON, then that."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER

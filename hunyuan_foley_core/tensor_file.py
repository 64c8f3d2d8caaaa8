"""Writing a safetensors file one tensor at a time: 8 bytes with the header's length, the header in JSON, the values.

The header only needs types and shapes, so it goes first and no more than one tensor has to be in memory.
"""

import json
import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}
ALIGNMENT = 8
# A file is mapped into memory to be read, and what was read of it stays there until it is closed.
BYTES_AT_ONCE = 64 * 2**20


@dataclass(frozen=True)
class Entry:
    """A tensor to be written."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


Entries = Mapping[str, Entry]
Checksums = dict[str, int]


def groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Keys in order, in lists of `BYTES_AT_ONCE` together, or one that is larger."""
    group, total = [], 0
    for key, size in sizes.items():
        if group and total + size > BYTES_AT_ONCE:
            yield group
            group, total = [], 0
        group.append(key)
        total += size
    if group:
        yield group


def _offsets(entries: Entries) -> dict[str, int]:
    """Where each tensor begins behind the header: the widest types first, so that each is aligned to its own size."""
    offsets, end = {}, 0
    for key in sorted(entries, key=lambda key: (-entries[key].dtype.itemsize, key)):
        offsets[key] = end
        end += entries[key].size
    return offsets


def _header(entries: Entries, metadata: Mapping[str, str]) -> bytes:
    described = {
        key: {
            "dtype": NAMES[entries[key].dtype], "shape": entries[key].shape,
            "data_offsets": [start, start + entries[key].size],
        }
        for key, start in _offsets(entries).items()
    }
    text = json.dumps({"__metadata__": dict(metadata), **described}).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def size(entries: Entries, metadata: Mapping[str, str]) -> int:
    """Of the whole file, in bytes."""
    return len(_header(entries, metadata)) + sum(entry.size for entry in entries.values())


def write(
    path: Path, entries: Entries, metadata: Mapping[str, str], tensors: Iterable[tuple[str, Tensor]]
) -> Checksums:
    """Writes a new file and hands it to the disk; returns what `verify` wants.

    Args:
        tensors: every one of `entries` once, in any order.

    Raises:
        OSError: the file is there already, or cannot be written.
    """
    header, offsets, checksums = _header(entries, metadata), _offsets(entries), {}
    with open(path, "xb") as file:
        file.write(header)
        for key, tensor in tensors:
            assert entries[key] == Entry(tensor.dtype, tuple(tensor.shape)) and key not in checksums, key
            values = _bytes(tensor)
            file.seek(len(header) + offsets[key])
            file.write(values)
            checksums[key] = zlib.crc32(values)
        assert checksums.keys() == entries.keys()
        file.flush()
        os.fsync(file.fileno())
    return checksums


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy())


def verify(path: Path, entries: Entries, checksums: Checksums) -> list[str]:
    """Reads the file back with the safetensors package; keys that are not as they were written.

    Raises:
        SafetensorError, OSError: it cannot be read at all.
    """
    wrong = []
    with safe_open(str(path), framework="pt") as file:
        wrong += sorted(set(file.keys()) ^ entries.keys())
    for group in groups({key: entry.size for key, entry in entries.items() if key not in wrong}):
        with safe_open(str(path), framework="pt") as file:
            wrong += [key for key in group if not _is_same(file.get_tensor(key), entries[key], checksums[key])]
    return wrong


def _is_same(tensor: Tensor, entry: Entry, checksum: int) -> bool:
    return Entry(tensor.dtype, tuple(tensor.shape)) == entry and zlib.crc32(_bytes(tensor)) == checksum

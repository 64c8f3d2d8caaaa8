"""Runs command lines where no socket can be made: `python -m tests.no_network generate ... + doctor + ...`.

Python's own sockets end the process with a stack trace. On Linux the kernel ends it at any other, of whatever library, but
for those within this machine (AF_UNIX), by which the C library asks who the user is.
"""

import ctypes
import os
import platform
import sys
import traceback

MADE_A_SOCKET = 99  # exit status
ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # as the kernel calls them; their call `socket`
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of a seccomp filter
NUMBER, ARCHITECTURE, FAMILY = 0, 4, 16  # where a call's description has them; the family is the first argument
AF_UNIX = 1
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("then", ctypes.c_ubyte), ("otherwise", ctypes.c_ubyte), ("value", ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def forbid() -> None:
    sys.addaudithook(_watch)
    if sys.platform == "linux" and platform.machine() in ARCHITECTURES:
        _forbid_in_kernel(*ARCHITECTURES[platform.machine()])


def _watch(event: str, _) -> None:
    if event.startswith("socket."):
        sys.stderr.write(f"{event}\n{''.join(traceback.format_stack())}")
        sys.stderr.flush()
        os._exit(MADE_A_SOCKET)


def _forbid_in_kernel(architecture: int, call: int) -> None:
    steps = [
        (LOAD, 0, 0, ARCHITECTURE), (EQUAL, 0, 4, architecture),  # jumps count the steps that are left out
        (LOAD, 0, 0, NUMBER), (EQUAL, 0, 2, call),
        (LOAD, 0, 0, FAMILY), (EQUAL, 0, 1, AF_UNIX),
        (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL_PROCESS),
    ]
    instructions = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.byref(_Program(len(steps), instructions))
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, program, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "The kernel takes no filter.")


if __name__ == "__main__":
    forbid()
    from hunyuan_foley_core.cli import main

    lines = [[]]
    for word in sys.argv[1:]:
        lines.append([]) if word == "+" else lines[-1].append(word)
    sys.exit(max(map(main, lines)))

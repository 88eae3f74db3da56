"""Limits, and what is taken under them: for tests of process workers where memory is short."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys

MIB = 1 << 20

#: The numbers of `memfd_create` and of the architecture, as `seccomp` names it.
MEMFD_CREATE = {"x86_64": (319, 0xC000003E), "aarch64": (279, 0xC00000B7)}.get(os.uname().machine)


def usage(name: str) -> int:
    """Bytes of a kind of memory of this process, by its name in `/proc/self/status`."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(name + ":"):
                return int(line.split()[1]) << 10
    raise LookupError(name)


def address_space(_: object = None) -> int:
    return usage("VmSize")


def stores(_: object = None) -> list[str]:
    """The stores of large payloads that are mapped here, whole or in part."""
    with open("/proc/self/maps") as maps:
        return [line.split()[5] for line in maps if "pytoweb-re" in line]


def leave_address_space(spare: int) -> int:
    """Allows so many bytes beside what is taken already. Says which process it was."""
    resource.setrlimit(resource.RLIMIT_AS, (usage("VmSize") + spare, resource.RLIM_INFINITY))
    return os.getpid()


def limit_files(size: int) -> None:
    """Allows no file larger than that, in memory neither; children inherit it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def make(size: int) -> bytes:
    return bytes(size)


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("yes", ctypes.c_ubyte),
        ("no", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction))]


def refuse_memfd() -> bool:
    """Has the system refuse nameless memory to this process and its children. False: it cannot."""
    if sys.platform != "linux" or MEMFD_CREATE is None:
        return False
    number, architecture = MEMFD_CREATE
    load, equal, end = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno.EPERM, 0x7FFF0000
    program = (_Instruction * 6)(
        _Instruction(load, 0, 0, 4),
        _Instruction(equal, 0, 3, architecture),
        _Instruction(load, 0, 0, 0),
        _Instruction(equal, 0, 1, number),
        _Instruction(end, 0, 0, refuse),
        _Instruction(end, 0, 0, allow),
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_no_new_privileges, set_filter = 38, 22
    if prctl(set_no_new_privileges, 1, 0, 0, 0) != 0:
        return False
    if prctl(set_filter, 2, ctypes.byref(_Program(6, program)), 0, 0) != 0:
        return False
    try:
        os.close(os.memfd_create("refused"))
    except OSError:
        return True
    return False

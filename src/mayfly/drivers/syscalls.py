"""A filter of system calls for a sandbox: what namespaces do not part, and no job needs.

Kernel keyrings, BPF, performance events and io_uring are the machine's, whoever asks; so are the
families of sockets beside the usual ones, above all AF_VSOCK, which leads to the hypervisor. See
seccomp(2); the program is what bwrap takes for `--seccomp`.
"""

import errno
import os
import socket
import struct
from typing import NamedTuple

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32 = 0x40000000
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


class _Machine(NamedTuple):
    """The kernel's numbers on one architecture."""

    architecture: int
    socket: int
    denied: tuple[int, ...]
    """add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd and io_uring's three."""


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 41, (248, 249, 250, 321, 298, 323, 425, 426, 427)),
    "aarch64": _Machine(0xC00000B7, 198, (217, 218, 219, 280, 241, 282, 425, 426, 427)),
}


def program(name: str = os.uname().machine) -> bytes | None:
    """The filter for this machine; None for one whose numbers we do not know."""
    machine = _MACHINES.get(name)
    if machine is None:
        return None
    steps = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, machine.architecture, yes=1),
        _step(_RETURN, _ERROR | errno.ENOSYS),  # 32-bit programs have other numbers
        _step(_LOAD, _NUMBER_AT),
        _step(_AT_LEAST, _X32, no=1),
        _step(_RETURN, _ERROR | errno.ENOSYS),
    ]
    for number in machine.denied:
        steps += [_step(_EQUAL, number, no=1), _step(_RETURN, _ERROR | errno.EPERM)]
    steps += [
        _step(_EQUAL, machine.socket, yes=1),
        _step(_RETURN, _ALLOW),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
    ]
    for family in _FAMILIES:
        steps += [_step(_EQUAL, family, no=1), _step(_RETURN, _ALLOW)]
    return b"".join([*steps, _step(_RETURN, _ERROR | errno.EAFNOSUPPORT)])


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction of classic BPF; `yes` and `no` are how many of the next are left out."""
    return struct.pack("<HBBI", code, yes, no, value)

"""Run a program that ends when its parent does: `python guard.py PARENT_PID PROGRAM ARGUMENT...`.

Asks the kernel to send SIGTERM when the parent dies, and to keep what the program makes from other
users; then becomes the program. A program of its own because a function that runs between fork and
exec is not safe in a process with threads.
"""

import ctypes
import os
import platform
import signal
import struct
import sys

_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38
_SYSTEM_CALLS = {"x86_64": (0xC000003E, 91, 317), "aarch64": (0xC00000B7, 52, 277)}
"""By machine: how seccomp calls it, and the numbers of fchmod and of seccomp."""
_SET_FILTER, _WITHOUT_SLOWING = 1, 4
_LOAD, _IF_EQUAL, _IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _DO_NOTHING = 0x7FFF0000, 0x00050000


def keep_private() -> None:
    """Make no file readable by others: the umask, and an `fchmod` that cannot undo it.

    Triton's Python backend makes its shared memory, with all that is scored, readable by everybody
    with an `fchmod`. One that would do so has no effect from here on, in all child processes too.

    Raises:
        OSError: the kernel cannot filter system calls.
    """
    os.umask(0o077)
    machine, fchmod, seccomp = _SYSTEM_CALLS[platform.machine()]
    steps = [
        (_LOAD, 0, 0, 4),  # the machine
        (_IF_EQUAL, 0, 5, machine),
        (_LOAD, 0, 0, 0),  # the system call
        (_IF_EQUAL, 0, 3, fchmod),
        (_LOAD, 0, 0, 24),  # its second argument
        (_IF_ANY, 0, 1, 0o077),
        (_RETURN, 0, 0, _DO_NOTHING),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(seccomp, _SET_FILTER, _WITHOUT_SLOWING, program):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
        try:
            keep_private()
        except (OSError, KeyError) as error:
            # as in a container that forbids it, where there are no other users as a rule
            said = "this kernel cannot keep Triton's shared memory from other users"
            sys.stderr.write(f"WARNING {said} (seccomp: {error})\n")
    os.execv(command[0], command)  # noqa: S606 - no shell on purpose

"""Run a program that ends when its parent does: `python guard.py PARENT_PID PROGRAM ARGUMENT...`.

Asks the kernel to send SIGTERM when the parent dies, then becomes the program. A program of its
own because a function that runs between fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - no shell on purpose

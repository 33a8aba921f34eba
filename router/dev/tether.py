"""Run a program that the kernel ends when its parent dies, whatever kills the parent.

A script of its own, run as ``python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT ...]``: it ties itself to its
parent and then becomes the program, so that nothing of Python runs between fork and exec of a process with
threads. The program gets SIGTERM, which leaves it the chance to end its own children. Linux only; elsewhere the
program runs untied.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int) -> None:
    """Ask for SIGTERM at the parent's death; exit if that has happened already."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    tie_to_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])

"""Run as a script: become another program that is told to end when its starter dies.

    tether.py STARTER_PID PROGRAM ARGUMENT...

On Linux the kernel sends SIGTERM even when the starter was killed outright; elsewhere the next
`pointsman down` or `pointsman up` ends what is left.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    starter, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(starter):
            sys.exit(f"the starter {starter} has gone")
    try:
        os.execv(command[0], command)  # noqa: S606  (no shell is the point)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()

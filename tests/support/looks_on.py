"""Look at the stacks of a pool ten times a second: `python looks_on.py PID` writes one line for each."""

from __future__ import annotations

import sys
import threading

from otel_canonical import cli

PAUSE_S = 0.1

if __name__ == "__main__":
    pause = threading.Event()
    while cli.main(["stacks", sys.argv[1], "--json"]) == 0:
        pause.wait(PAUSE_S)

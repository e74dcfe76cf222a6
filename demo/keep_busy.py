"""Keeps the shop busy, so that a dashboard has something to show: `keep_busy.py HOST PORT`.

Everything that `show.py` asks, again and again by a few visitors; now and then somebody asks for what
takes longer than Gunicorn's timeout.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import sys
import threading
import time

from tour.visitor import Visitor, visit_everything

VISITORS = 3
MOST_PAUSE_S = 4.0
STUCK_OF_ROUNDS = 0.15
STUCK_S = 30


def visit_forever(host: str, port: int) -> None:
    """Go round the shop until the process ends; what breaks a connection is part of the show."""
    while True:
        visitor = Visitor(host, port)
        with contextlib.suppress(OSError, http.client.HTTPException):
            visit_everything(visitor)
        if random.random() < STUCK_OF_ROUNDS:
            with contextlib.suppress(OSError, http.client.HTTPException):
                visitor.ask(f"GET /slow/?seconds={STUCK_S}", 500, "longer than Gunicorn waits")
        time.sleep(random.uniform(0, MOST_PAUSE_S))


def main() -> None:
    """Start the visitors and let them be."""
    host, port = sys.argv[1], int(sys.argv[2])
    visitors = [
        threading.Thread(target=visit_forever, args=(host, port), name=f"visitor-{number}")
        for number in range(VISITORS)
    ]
    for visitor in visitors:
        visitor.daemon = True
        visitor.start()
    for visitor in visitors:
        visitor.join()


if __name__ == "__main__":
    main()

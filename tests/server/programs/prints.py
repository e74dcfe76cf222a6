"""An application that prints as applications do, each time in another way."""

from __future__ import annotations

import itertools
import json
import logging
import sys

_count = itertools.count()

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("logged %(message)s"))
logger = logging.getLogger("prints")
logger.addHandler(handler)


def say(number: int) -> None:
    match number % 6:
        case 0:
            print("x")
        case 1:
            print("several", number, None)
        case 2:
            print(json.dumps({"number": number, "list": [1, 2]}, indent=2))
        case 3:
            logger.warning("by logging %s", number)
        case 4:
            print("error", "x", file=sys.stderr)
        case 5:
            sys.stdout.write("written\nin parts ")
            sys.stdout.writelines(["of", " a line\n"])


def application(environ, start_response):
    for _ in range(12):
        say(next(_count))
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

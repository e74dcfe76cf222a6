"""A program that starts Gunicorn itself, as its documentation shows under "Custom Application".

`python own_application.py --bind 127.0.0.1:0 --workers 1`; with `HOOKS_LOG` it sets hooks in code.
"""

from __future__ import annotations

import os
import sys

from gunicorn.app.base import BaseApplication
from plain_wsgi import application


def note_request(worker, req, environ, resp):
    with open(os.environ["HOOKS_LOG"], "a") as log:
        log.write("post_request\n")


class OwnApplication(BaseApplication):
    """Takes its options from pairs on the command line."""

    def init(self, parser, opts, args):
        """Nothing: BaseApplication asks for it."""

    def load_config(self):
        options = iter(sys.argv[1:])
        for name, value in zip(options, options, strict=True):
            self.cfg.set(name.removeprefix("--"), value)
        if "HOOKS_LOG" in os.environ:
            self.cfg.set("post_request", note_request)

    def load(self):
        return application


if __name__ == "__main__":
    OwnApplication().run()

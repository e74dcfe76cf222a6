"""A Gunicorn configuration whose first worker gets a signal while otel-canonical starts in it.

EARLY_SIGNAL is its name, ONLY_ONCE a directory that is made when it is sent. ROTATE is a file that is
renamed before.
"""

from __future__ import annotations

import os
import signal

from otel_canonical import otel_config

_set_defaults = otel_config.set_defaults


def set_defaults_and_signal():
    _set_defaults()
    try:
        os.mkdir(os.environ["ONLY_ONCE"])
    except FileExistsError:
        return
    if "ROTATE" in os.environ:
        os.rename(os.environ["ROTATE"], os.environ["ROTATE"] + ".1")
    os.kill(os.getpid(), getattr(signal, os.environ["EARLY_SIGNAL"]))


otel_config.set_defaults = set_defaults_and_signal

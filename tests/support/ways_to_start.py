"""Gunicorn's configuration with our hooks in it, and what a server says while it starts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.support.servers import (
    Line,
    Server,
)

STAR_IMPORT = "from otel_canonical.gunicorn_hooks import *\n"
#: What Gunicorn writes before a message of its own.
LOG_PREFIX = re.compile(r"\[[\d: +-]+\] \[(\d+)\] ")


def with_hooks_file(directory: Path) -> list[str]:
    """Return the arguments that have Gunicorn read a configuration with nothing but the import."""
    conf = directory / "hooks_only.conf.py"
    conf.write_text(STAR_IMPORT)
    return ["-c", str(conf)]


def said(server: Server) -> list[str]:
    """Return what appeared on stderr, without what differs from run to run."""
    shown = LOG_PREFIX.sub("", server.stderr.read_text())
    return re.sub(r"pid: \d+|\(\d+\)|127\.0\.0\.1:\d+|/\S+gunicorn\.ctl", "…", shown).splitlines()


def nothing_inherited(home: Path) -> list[str]:
    """Return a command that leaves PATH and HOME as the only variables for what follows."""
    return [
        "/usr/bin/env",
        "-i",
        f"PATH={Path(sys.executable).parent}:/usr/bin:/bin",
        f"HOME={home}",
    ]


def facts(line: Line) -> Line:
    """Return what of a line is the same in every run."""
    keys = "event_type req_method req_path req_host req_route resp_view resp_status".split()
    return {key: line[key] for key in keys if key in line}

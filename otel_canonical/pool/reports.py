"""What the arbiter and the reporter agree on: the pipe between them. Pure."""

from __future__ import annotations

import signal

#: What a terminal or a supervisor may send to all of a server's processes. The reporter ends when its
#: input does.
LEFT_TO_ARBITER = frozenset(
    (
        *(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP),
        *(signal.SIGUSR1, signal.SIGUSR2),
    )
)

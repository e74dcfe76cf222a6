"""The errors that end a command with one sentence on stderr."""

from __future__ import annotations

import importlib
from types import ModuleType

USAGE, NO_POOL, NOT_ALLOWED = 2, 3, 4


class CommandFailed(Exception):
    """The command cannot go on; the message says why and what to do.

    Args:
        message: for stderr.
        code: the command's exit code: `USAGE`, `NO_POOL` or `NOT_ALLOWED`.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def library(name: str, extra: str) -> ModuleType:
    """Import a library that an extra brings; raise `CommandFailed` with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        root = name.partition(".")[0]
        raise CommandFailed(
            f"this needs {root}, which is not installed: pip install 'otel-canonical[{extra}]'"
        ) from error

"""Tells from the command line whether this process may become a Gunicorn. Uses only files and `sys`.

OpenTelemetry calls a distro before the program begins, so there is nothing else to tell it from. In doubt
the answer is yes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

WORD = b"gunicorn"

#: No more of a program's text is read.
MOST_BYTES = 1 << 20

#: Options of the interpreter whose argument is the next word.
_WITH_ARGUMENT = ("-X", "-W", "--check-hash-based-pycs")


def may_become_gunicorn(command_line: Sequence[str]) -> bool:
    """Return whether a program is Gunicorn, or names it in its text, as one that embeds it does.

    Args:
        command_line: as in `sys.orig_argv`.
    """
    words = iter(command_line[1:])
    for word in words:
        if word in _WITH_ARGUMENT:
            next(words, None)
        elif word in ("-c", "-m"):
            program = next(words, "")
            return WORD in program.encode() or (word == "-m" and _module_names_it(program))
        elif not word.startswith("-"):
            return WORD in os.path.basename(word).encode() or _names_it(word)
    return False


def _module_names_it(module: str) -> bool:
    path = module.replace(".", os.sep)
    for directory in ("", *sys.path):
        for name in (f"{path}.py", os.path.join(path, "__main__.py")):
            found = os.path.join(directory, name)
            if os.path.isfile(found):
                return _names_it(found)
    return True


def _names_it(path: str) -> bool:
    try:
        if os.path.isdir(path):
            path = os.path.join(path, "__main__.py")
        with open(path, "rb") as program:
            return WORD in program.read(MOST_BYTES)
    except OSError:
        return True

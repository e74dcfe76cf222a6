"""The console script `otel-canonical`: parses the command line and hands over to a command.

Each command is a module of `reading` with `SUMMARY`, `add_arguments(parser)` and `run(options)`, which
returns the exit code. A command's own imports come when it runs: `tail` must not load DuckDB.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from otel_canonical._version import __version__
from otel_canonical.reading.problems import CommandFailed

#: In the order in which `--help` lists them.
COMMANDS = ("tail", "report", "query", "check", "ps", "top", "stacks", "ready", "set")

#: What a shell reports for a command that SIGINT or SIGPIPE ended.
INTERRUPTED = 130
PIPE_CLOSED = 141


class Command(Protocol):
    """What a module of a command offers."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, options: argparse.Namespace) -> int:
        """Carry the command out and return the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or why it could not run, see `problems`."""
    parser = argparse.ArgumentParser(
        prog="otel-canonical", description="Reads canonical log lines and shows what is in them."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    given = sys.argv[1:] if arguments is None else arguments
    # A probe runs every few seconds: it must not load what other commands need.
    for name in given[:1] if given[:1] and given[0] in COMMANDS else COMMANDS:
        command = _command(name)
        command_parser = commands.add_parser(
            name, help=command.SUMMARY, description=command.SUMMARY
        )
        command.add_arguments(command_parser)
        command_parser.set_defaults(command=command)
    options = parser.parse_args(arguments)
    try:
        code = cast("Command", options.command).run(options)
        sys.stdout.flush()
    except CommandFailed as error:
        sys.stderr.write(f"otel-canonical: {error}\n")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, a pager) has seen enough. Python must not flush into it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return code


def _command(name: str) -> Command:
    return cast("Command", importlib.import_module(f"otel_canonical.reading.{name}"))


if __name__ == "__main__":
    sys.exit(main())

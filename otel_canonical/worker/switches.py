"""Applies in a worker what `otel-canonical set` has switched for the pool, and takes it back.

Called at the beginning of a request, when the scoreboard's generation word has changed.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.switches import (
    LOG_PREFIX,
    SETTINGS,
    as_switches,
    unexpired,
    value_of,
)
from otel_canonical.settings import Settings


class SwitchedSettings:
    """The settings that are in force, and the levels that loggers had before.

    Args:
        settings: the operator's choice at the start.
        scoreboard: says what is switched.
        reconfigure: takes the settings that are in force from now on.
    """

    def __init__(
        self, settings: Settings, scoreboard: Scoreboard, reconfigure: Callable[[Settings], None]
    ) -> None:
        self._settings = settings
        self._scoreboard = scoreboard
        self._reconfigure = reconfigure
        self._in_force = settings
        #: By a switched logger's name: the level that it had.
        self._levels: dict[str, int] = {}

    def apply(self) -> None:
        """Bring settings and loggers to what is switched now."""
        content = self._scoreboard.read_switches()
        switches = unexpired(as_switches(content), time.monotonic_ns())
        values: dict[str, Any] = {}
        levels: dict[str, int] = {}
        for name, (text, _) in switches.items():
            # Written by a command, of another version perhaps.
            with guarded(f"switching {name}"):
                if name.startswith(LOG_PREFIX):
                    levels[name.removeprefix(LOG_PREFIX)] = value_of(name, text)
                elif name in SETTINGS:
                    values[SETTINGS[name].setting] = value_of(name, text)
        self._switch_levels(levels)
        settings = dataclasses.replace(self._settings, **values)
        if settings != self._in_force:
            self._in_force = settings
            self._reconfigure(settings)

    def _switch_levels(self, levels: dict[str, int]) -> None:
        for name in [*self._levels.keys() - levels.keys()]:
            logging.getLogger(_logger_name(name)).setLevel(self._levels.pop(name))
        for name, level in levels.items():
            logger = logging.getLogger(_logger_name(name))
            self._levels.setdefault(name, logger.level)
            logger.setLevel(level)


def _logger_name(name: str) -> str | None:
    return None if name == "root" else name

"""Checks settings against what they are about: the known fields, Gunicorn's timeout, one another.

Lives in the arbiter. `settings` itself checks only that a value can be read.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

from otel_canonical.event.fields import FIELDS, PATTERNS
from otel_canonical.setting_values import names_in
from otel_canonical.settings import Settings, variable_of

#: The parts of a glob that match one character.
_ONE_CHARACTER = re.compile(r"\[[^]]*\]|\?")


def checked(
    settings: Settings, cfg: Any, environ: Mapping[str, str], warn: Callable[[str], None]
) -> Settings:
    """Return settings that can be kept; every mistake is told to `warn`.

    Args:
        settings: as they were read.
        cfg: Gunicorn's configuration.
        environ: where they were read from.
        warn: told one sentence for each mistake.
    """
    variable = variable_of("excluded_fields")
    for glob in names_in(environ.get(variable, "")):
        if not _is_known(glob):
            warn(f"{glob!r} in {variable} matches no field; it excludes nothing")
    if settings.slow_interval_seconds is not None and settings.slow_seconds is None:
        warn(
            f"{variable_of('slow_interval_seconds')} repeats reports of slow requests, but "
            f"{variable_of('slow_seconds')} doesn't say which are; none is reported"
        )
    margin_s, timeout_s = settings.timeout_margin_seconds, cfg.timeout
    if timeout_s and margin_s >= timeout_s:
        usable_s = min(Settings().timeout_margin_seconds, timeout_s / 2)
        warn(
            f"{variable_of('timeout_margin_seconds')}={margin_s:g} is not less than Gunicorn's timeout, "
            f"{timeout_s:g} seconds; using {usable_s:g}"
        )
        settings = dataclasses.replace(settings, timeout_margin_seconds=usable_s)
    return settings


def _is_known(glob: str) -> bool:
    """Return whether a glob can match a field. Some keys depend on the app: `app_…`, `<system>_calls`."""
    if any(fnmatch.fnmatchcase(field.key, glob) for field in FIELDS):
        return True
    # Keys that the glob matches, of the shapes that those of `PATTERNS` have.
    one_key = _ONE_CHARACTER.sub("x", glob)
    examples = [one_key.replace("*", filler) for filler in ("x", "_x", "_x_time")]
    shapes = [re.sub("<.*>", ".+", pattern.key) for pattern in PATTERNS]
    return any(re.fullmatch(shape, example) for shape in shapes for example in examples)

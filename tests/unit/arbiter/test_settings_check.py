"""Settings that can't be meant as they are: each is said, and what is used instead."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from otel_canonical.arbiter.settings_check import checked
from otel_canonical.settings import PREFIX, Settings, read_settings


def check(timeout: float = 30, **values: str) -> tuple[Settings, list[str]]:
    """Read settings, check them; return them and what was said."""
    warnings: list[str] = []
    environ = {PREFIX + name.upper(): value for name, value in values.items()}
    settings = read_settings(environ, warnings.append)
    cfg = SimpleNamespace(timeout=timeout)
    return checked(settings, cfg, environ, warnings.append), warnings


@pytest.mark.parametrize(
    "globs",
    [
        *("", "req_user_agent", "user_*", "*", "db_*,tpl_time", "app_plan", "app*", "*_calls"),
        *("redis_calls", "a*_time", "g_w_died_SIGKILL", "g_lines_*", "app_[ab]", "???_query"),
    ],
)
def test_nothing_is_said_of_fields_that_may_exist(globs: str) -> None:
    """Known fields, and those that depend on the app."""
    assert check(excluded_fields=globs)[1] == []


def test_field_that_does_not_exist_is_named() -> None:
    """A typing error would leave the field on the line; the others are excluded."""
    settings, warnings = check(excluded_fields="resp_tyme,user_id,req_ur?")
    assert settings.excluded_fields is not None
    assert settings.excluded_fields.match("user_id")
    assert warnings == [
        f"{glob!r} in OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS matches no field; it excludes nothing"
        for glob in ("resp_tyme", "req_ur?")
    ]


@pytest.mark.parametrize(("timeout", "used"), [(30, 0.5), (60, 0.5), (0.5, 0.25)])
def test_margin_longer_than_timeout_is_replaced(timeout: float, used: float) -> None:
    """Every request would be past its deadline from the start."""
    settings, warnings = check(timeout, timeout_margin_seconds="60")
    assert settings.timeout_margin_seconds == used
    assert warnings == [
        "OTEL_PYTHON_CANONICAL_TIMEOUT_MARGIN_SECONDS=60 is not less than Gunicorn's timeout, "
        f"{timeout:g} seconds; using {used:g}"
    ]


@pytest.mark.parametrize("timeout", [0, 61])
def test_margin_is_kept_when_timeout_is_longer_or_off(timeout: float) -> None:
    """`--timeout 0` never aborts a worker."""
    settings, warnings = check(timeout, timeout_margin_seconds="60")
    assert (settings.timeout_margin_seconds, warnings) == (60, [])


def test_interval_without_threshold_is_said() -> None:
    """Nothing is slow without OTEL_PYTHON_CANONICAL_SLOW_SECONDS."""
    _, [warning] = check(slow_interval_seconds="5")
    assert warning == (
        "OTEL_PYTHON_CANONICAL_SLOW_INTERVAL_SECONDS repeats reports of slow requests, but "
        "OTEL_PYTHON_CANONICAL_SLOW_SECONDS doesn't say which are; none is reported"
    )
    assert check(slow_interval_seconds="5", slow_seconds="1")[1] == []

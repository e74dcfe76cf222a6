"""Every setting is read as documented; a bad value warns once and its default is used."""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
import sys
from typing import Any

import pytest
from gunicorn.config import Config
from opentelemetry.instrumentation import auto_instrumentation

from otel_canonical import settings
from otel_canonical.settings import Settings


def read(**values: str) -> tuple[Settings, list[str]]:
    """Read settings by their field names; return them and what was warned about."""
    warnings: list[str] = []
    environ = {settings.variable_of(name): value for name, value in values.items()}
    return settings.read_settings({"PATH": "/bin", **environ}, warnings.append), warnings


def test_defaults_are_used_when_nothing_is_set() -> None:
    """An empty environment is a working configuration."""
    assert read() == (Settings(), [])


@pytest.mark.parametrize("field", settings.described(), ids=lambda field: field.name)
def test_empty_variable_counts_as_unset(field: dataclasses.Field[Any]) -> None:
    """As everywhere in OpenTelemetry."""
    assert read(**{field.name: ""}) == (Settings(), [])
    assert read(**{field.name: "  "}) == (Settings(), [])


@pytest.mark.parametrize("field", settings.described(), ids=lambda field: field.name)
def test_default_is_shown_as_it_is_written(field: dataclasses.Field[Any]) -> None:
    """What the documentation and the warnings call the default can be set, or says that there is none."""
    shown = field.metadata["shown"]
    if shown.startswith("("):
        assert not field.default
    else:
        assert field.metadata["parse"](shown) == field.default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *[("enabled", text, False) for text in ("false", "False", "0", "no", " off ")],
        *[("query_string", text, True) for text in ("true", "TRUE", "1", "yes", "on")],
        ("response_request_id", "true", True),
        ("output", "stderr", "stderr"),
        ("output", " /var/log/a b.log ", "/var/log/a b.log"),
        ("format", "JSON", "json"),
        ("max_line", "512", 512),
        ("max_line", " 65536 ", 65536),
        ("redacted_names", "plan, ,member id,", ("plan", "member id")),
        ("flush_seconds", "0.25", 0.25),
        ("timeout_margin_seconds", "1e1", 10.0),
        ("slow_seconds", " 3 ", 3.0),
        ("slow_interval_seconds", "60", 60.0),
        ("slow_locals", "true", True),
        ("log_events", "False", "false"),
        ("log_events", "sampled", "sampled"),
        ("excluded_urls", " , ", None),
        ("excluded_fields", ",", None),
    ],
)
def test_value_is_used_when_it_is_good(name: str, text: str, value: object) -> None:
    """The one setting has changed, the others have not, and nothing is said."""
    expected = dataclasses.replace(Settings(), **{name: value})
    assert read(**{name: text}) == (expected, [])


@pytest.mark.parametrize(
    ("name", "text", "expectation"),
    [
        ("enabled", "maybe", "true or false"),
        ("query_string", "2", "true or false"),
        ("response_request_id", "ja", "true or false"),
        ("format", "xml", "logfmt or json"),
        ("max_line", "abc", "a number of bytes"),
        ("max_line", "4k", "a number of bytes"),
        ("max_line", "1e3", "a number of bytes"),
        ("max_line", "511", "at least 512 bytes"),
        ("max_line", "-1", "at least 512 bytes"),
        ("flush_seconds", "2s", "a number of seconds"),
        ("timeout_margin_seconds", "0", "more than 0 seconds"),
        ("slow_seconds", "-1", "more than 0 seconds"),
        ("slow_interval_seconds", "inf", "more than 0 seconds"),
        ("slow_seconds", "nan", "more than 0 seconds"),
        ("slow_locals", "some", "true or false"),
        ("log_events", "otlp", "true, sampled or false"),
        ("excluded_urls", "^/ok,(", r"regular expressions separated by commas \(.+\)"),
    ],
)
def test_default_is_used_when_value_is_bad(name: str, text: str, expectation: str) -> None:
    """One warning: which variable, what it held, what it should be and what is used instead."""
    chosen, [warning] = read(**{name: text})
    [shown] = [f.metadata["shown"] for f in settings.described() if f.name == name]
    assert chosen == Settings()
    assert re.fullmatch(
        rf"OTEL_PYTHON_CANONICAL_{name.upper()}='{re.escape(text)}' is not {expectation}; "
        rf"using the default, {re.escape(shown)}",
        warning,
    )


def test_warning_is_one_line_when_value_is_hostile() -> None:
    """What a value holds cannot forge a line of the log."""
    _, [warning] = read(max_line="1\n[2024] [1] [INFO] forged\x1b[2J")
    assert warning.isprintable()


def test_good_values_are_used_beside_bad_ones() -> None:
    """One mistake costs one setting."""
    chosen, warnings = read(max_line="x", format="json", enabled="?", output="stderr")
    assert chosen == dataclasses.replace(Settings(), format="json", output="stderr")
    assert [text.partition("=")[0] for text in warnings] == [
        "OTEL_PYTHON_CANONICAL_ENABLED",
        "OTEL_PYTHON_CANONICAL_MAX_LINE",
    ]


def test_unknown_variable_is_named_and_ignored() -> None:
    """A typing error doesn't go unnoticed; the variables of others are none of our business."""
    warnings: list[str] = []
    environ = {
        "OTEL_PYTHON_CANONICAL_MAXLINE": "900",
        "OTEL_PYTHON_LOG_LEVEL": "x",
        "CANONICAL": "1",
    }
    assert settings.read_settings(environ, warnings.append) == Settings()
    assert warnings == [
        "OTEL_PYTHON_CANONICAL_MAXLINE is not a setting of otel-canonical; it is ignored"
    ]


@pytest.mark.parametrize(
    ("patterns", "excluded", "others"),
    [
        ("health", ["/health", "/a/healthy"], ["/", "/Health"]),
        ("^/health$, ^/metrics", ["/health", "/metrics/x"], ["/health/", "/a/metrics"]),
        ("a|b,^/c", ["/a", "/b", "/c"], ["/d/c"]),
    ],
)
def test_urls_are_excluded_by_regular_expressions(
    patterns: str, excluded: list[str], others: list[str]
) -> None:
    """Searched for anywhere in the path, as OpenTelemetry's own EXCLUDED_URLS are."""
    chosen, warnings = read(excluded_urls=patterns)
    assert chosen.excluded_urls is not None
    assert [path for path in excluded + others if chosen.excluded_urls.search(path)] == excluded
    assert warnings == []


@pytest.mark.parametrize(
    ("globs", "excluded", "others"),
    [
        ("user_id", ["user_id"], ["user_ids", "app_user_id"]),
        ("req_*, g_pid", ["req_id", "req_", "g_pid"], ["g_w_requests", "my_req_id"]),
        ("app_pl?n,app_[ab]", ["app_plan", "app_a"], ["app_pln", "app_c"]),
    ],
)
def test_fields_are_excluded_by_globs(globs: str, excluded: list[str], others: list[str]) -> None:
    """A glob is matched against the whole key."""
    chosen, _ = read(excluded_fields=globs)
    assert chosen.excluded_fields is not None
    assert [key for key in excluded + others if chosen.excluded_fields.match(key)] == excluded


def test_settings_are_frozen() -> None:
    """Read once, the same for everyone."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().max_line = 1  # type: ignore[misc]


# --- what opentelemetry-instrument offers as flags


def load_variables(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> dict[str, Any]:
    """Run the module as `opentelemetry-instrument` does, in an environment that holds only `environ`."""
    monkeypatch.setattr(os, "environ", environ)
    # `runpy` warns of a module that another test has imported.
    monkeypatch.delitem(sys.modules, "otel_canonical.environment_variables", raising=False)
    return runpy.run_module("otel_canonical.environment_variables")


def test_each_setting_is_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module names all settings, no others, and each by its own name."""
    module = load_variables(monkeypatch, {})
    named = {name: value for name, value in module.items() if name.startswith("OTEL_")}
    variables = [settings.variable_of(field.name) for field in settings.described()]
    # The one that is no setting: see `test_options_of_gunicorn_reach_it`.
    assert named == {variable: variable for variable in [*variables, "OTEL_CONFIG"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {},
            {"OTEL_PYTHON_DISTRO": "otel_canonical", "OTEL_PYTHON_CONFIGURATOR": "otel_canonical"},
        ),
        ({"OTEL_PYTHON_DISTRO": "distro"}, {"OTEL_PYTHON_DISTRO": "distro"}),
        (
            {"OTEL_PYTHON_CONFIGURATOR": "configurator"},
            {"OTEL_PYTHON_DISTRO": "otel_canonical", "OTEL_PYTHON_CONFIGURATOR": "configurator"},
        ),
        (
            {"OTEL_PYTHON_DISTRO": "", "OTEL_PYTHON_CONFIGURATOR": ""},
            {"OTEL_PYTHON_DISTRO": "otel_canonical", "OTEL_PYTHON_CONFIGURATOR": "otel_canonical"},
        ),
    ],
)
def test_distro_is_ours_unless_user_names_one(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: dict[str, str]
) -> None:
    """Of several distros installed ours wins, and what the user has set stays."""
    environ = dict(before)
    load_variables(monkeypatch, environ)
    assert environ == after


def test_ours_is_chosen_when_user_names_one_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error in the distro's name is said once, and costs neither lines nor exports."""
    environ = {"OTEL_PYTHON_DISTRO": "distroo", "OTEL_PYTHON_CONFIGURATOR": "-1"}
    load_variables(monkeypatch, environ)
    assert environ == {
        "OTEL_PYTHON_DISTRO": "otel_canonical",
        "OTEL_PYTHON_CONFIGURATOR": "otel_canonical",
    }
    assert capsys.readouterr().err.splitlines() == [
        "otel-canonical: OTEL_PYTHON_DISTRO='distroo' is not installed; using otel_canonical",
        "otel-canonical: OTEL_PYTHON_CONFIGURATOR='-1' is not installed; using otel_canonical",
    ]


def options_of_gunicorn() -> list[str]:
    """Return all long and short options of the installed Gunicorn."""
    actions = Config().parser()._actions
    return sorted({option for action in actions for option in action.option_strings})


def test_options_of_gunicorn_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`opentelemetry-instrument` takes none of Gunicorn's options for an abbreviation of its own."""
    started: list[list[str]] = []

    def execl(path: str, *words: str) -> None:
        started.append(list(words[1:]))

    monkeypatch.setattr(auto_instrumentation, "execl", execl)
    for option in options_of_gunicorn():
        monkeypatch.setattr(sys, "argv", ["opentelemetry-instrument", "gunicorn", option, "value"])
        environment = dict(os.environ)
        monkeypatch.setattr(os, "environ", environment)
        monkeypatch.setattr(auto_instrumentation, "environ", environment)
        auto_instrumentation.run()
        assert started.pop() == [option, "value"]

"""However Gunicorn is started and configured, lines are written and nothing else changes."""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT
from tests.support.operating import stop_politely
from tests.support.servers import GUNICORN, gunicorn
from tests.support.soak import some_of
from tests.support.ways_to_start import facts, nothing_inherited, said, with_hooks_file


def test_fresh_site_has_three_right_lines_when_nothing_is_configured(
    mysite: Path, tmp_path: Path
) -> None:
    """`opentelemetry-instrument gunicorn mysite.wsgi`: lines, and one more word than Gunicorn's own."""
    heard = []
    for name, command in (("plain", GUNICORN), ("ours", [*INSTRUMENT, *GUNICORN])):
        home = tmp_path / name
        home.mkdir()
        with gunicorn(
            "mysite.wsgi", home, command=[*nothing_inherited(home), *command], cwd=mysite
        ) as server:
            server.wait_for("Control socket|Booting worker")
            paths = ("/admin/login/", "/admin/", "/nope/")
            assert [server.get(path).status for path in paths] == [200, 302, 404]
            if name == "ours":
                lines = server.wait_for_lines(3)
            stop_politely(server)
            heard.append(Counter(said(server)))
    plain, ours = heard
    [only] = (ours - plain).elements()
    assert re.fullmatch(
        r"\[INFO\] otel-canonical [\d.]+: one logfmt line per request on stdout; nothing is exported "
        r"\(set OTEL_EXPORTER_OTLP_ENDPOINT=\S+ to send spans, metrics and logs to a collector\)",
        only,
    )
    assert not plain - ours
    views = "django.contrib.admin.sites.AdminSite"
    common = {"event_type": "request", "req_method": "GET", "req_host": "localhost"}
    assert [facts(line) for line in lines] == [
        {
            **common,
            "req_path": "/admin/login/",
            "req_route": "admin/login/",
            "resp_view": f"{views}.login",
            "resp_status": "200",
        },
        {
            **common,
            "req_path": "/admin/",
            "req_route": "admin/",
            "resp_view": f"{views}.index",
            "resp_status": "302",
        },
        {**common, "req_path": "/nope/", "resp_status": "404"},
    ]


@pytest.mark.parametrize("command", [GUNICORN, [*INSTRUMENT, *GUNICORN]], ids=["hooks", "both"])
def test_fresh_site_has_same_lines_when_configuration_imports_hooks(
    mysite: Path, tmp_path: Path, command: list[str]
) -> None:
    """The other way in gives the same, and both ways at once are one."""
    with gunicorn(
        "mysite.wsgi", tmp_path, *with_hooks_file(tmp_path), command=command, cwd=mysite
    ) as server:
        for path in ("/admin/login/", "/admin/", "/nope/"):
            server.get(path)
        lines = server.wait_for_lines(3)
        stop_politely(server)
        assert len(server.lines()) == 3
    assert [(line["resp_status"], line.get("req_route")) for line in lines] == [
        ("200", "admin/login/"),
        ("302", "admin/"),
        ("404", None),
    ]
    assert len([text for text in said(server) if "otel-canonical" in text]) == 1
    assert not re.search("WARNING|ERROR|Traceback", server.report())


@pytest.mark.parametrize(
    ("command", "with_hooks"),
    [
        ([*INSTRUMENT, sys.executable, "-m", "gunicorn"], False),
        ([sys.executable, "-m", "gunicorn"], True),
    ],
    ids=["instrument", "hooks"],
)
def test_one_line_when_gunicorn_is_run_as_module(
    command: list[str], with_hooks: bool, tmp_path: Path
) -> None:
    """`python -m gunicorn` is Gunicorn, too."""
    arguments = with_hooks_file(tmp_path) if with_hooks else []
    with gunicorn("plain_wsgi", tmp_path, *arguments, command=command) as server:
        server.get("/ok/")
        [line] = server.wait_for_lines(1)
    assert facts(line)["resp_status"] == "200"


def test_one_line_when_program_starts_gunicorn_itself(tmp_path: Path) -> None:
    """A script on `BaseApplication`, with a hook that it sets in code."""
    notes = tmp_path / "notes"
    command = [*INSTRUMENT, sys.executable, "own_application.py"]
    with gunicorn("", tmp_path, command=command, HOOKS_LOG=str(notes)) as server:
        server.get("/ok/")
        server.get("/nope/")
        lines = server.wait_for_lines(2)
    assert [line["resp_status"] for line in lines] == ["200", "404"]
    assert notes.read_text().split() == ["post_request"] * 2


@pytest.mark.parametrize(
    ("command", "with_hooks"),
    [([*INSTRUMENT, *GUNICORN], False), (GUNICORN, True)],
    ids=["instrument", "hooks"],
)
def test_whole_facts_when_app_is_preloaded(
    command: list[str], with_hooks: bool, tmp_path: Path
) -> None:
    """With `--preload` Django is imported before the fork; its facts are on the line all the same."""
    arguments = with_hooks_file(tmp_path) if with_hooks else []
    with gunicorn(
        "every_kind",
        tmp_path,
        "--preload",
        *arguments,
        command=command,
        workers=2,
        SITE_DIRECTORY=str(tmp_path),
    ) as server:
        server.get("/queries/")
        server.get("/raises/")
        first, second = server.wait_for_lines(2)
    assert (first["req_route"], first["resp_view"]) == ("queries/", "every_kind_queries.queries")
    assert int(first["db_queries"]) >= 5
    assert (second["resp_status"], second["exc_msg"]) == ("500", "Oh noes!")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("in_file", "preload"),
    some_of(itertools.product([True, False], [False, True]), (True, True), (False, False)),
)
def test_settings_are_obeyed_when_gunicorn_sets_environment(
    in_file: bool, preload: bool, mysite: Path, tmp_path: Path
) -> None:
    """What `--env` or a file's `raw_env` sets reaches Django and us, both."""
    (tmp_path / "other_settings.py").write_text("from mysite.settings import *\nDEBUG = False\n")
    (tmp_path / "bare_wsgi.py").write_text(
        "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
    )
    variables = [
        "DJANGO_SETTINGS_MODULE=other_settings",
        "OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS=g_*",
        "OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID=true",
    ]
    conf = tmp_path / "conf.py"
    conf.write_text(
        f"pythonpath = {str(mysite)!r}\npreload_app = {preload}\n"
        + (f"raw_env = {variables}\n" if in_file else "")
    )
    flags = [] if in_file else [flag for variable in variables for flag in ("--env", variable)]
    with gunicorn("bare_wsgi", tmp_path, "-c", str(conf), *flags, cwd=tmp_path) as server:
        answer = server.get("/admin/", Host="localhost")
        [line] = server.wait_for_lines(1)
    assert answer.status == 400  # DEBUG is off and ALLOWED_HOSTS empty: these settings, no others
    assert answer.headers["X-Request-ID"] == line["req_id"]
    assert not [key for key in line if key.startswith("g_")]


def test_lines_come_when_options_are_in_gunicorn_cmd_args(tmp_path: Path) -> None:
    """GUNICORN_CMD_ARGS may hold what would be on the command line."""
    with gunicorn(
        "plain_wsgi",
        tmp_path,
        GUNICORN_CMD_ARGS="--preload --env OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS=g_*",
    ) as server:
        server.get("/ok/")
        [line] = server.wait_for_lines(1)
    assert not [key for key in line if key.startswith("g_")]

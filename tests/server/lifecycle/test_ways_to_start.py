"""Every way in: however Gunicorn is started and configured, lines come and nothing else changes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import (
    GUNICORN,
    INSTRUMENT,
    PROGRAMS,
    Line,
    Server,
    clean_environment,
    eventually,
    gunicorn,
)

STAR_IMPORT = "from otel_canonical.gunicorn_hooks import *\n"
#: What Gunicorn writes before a message of its own.
LOG_PREFIX = re.compile(r"\[[\d: +-]+\] \[(\d+)\] ")


@pytest.fixture(scope="module")
def mysite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `django-admin startproject` makes, untouched."""
    directory: Path = tmp_path_factory.mktemp("startproject")
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite", directory],
        check=True,
        env=clean_environment(directory, {}),
    )
    return directory


def with_hooks_file(directory: Path) -> list[str]:
    """Return the arguments that have Gunicorn read a configuration with nothing but the import."""
    conf = directory / "hooks_only.conf.py"
    conf.write_text(STAR_IMPORT)
    return ["-c", str(conf)]


def said(server: Server) -> list[str]:
    """Return what appeared on stderr, without what differs from run to run."""
    shown = LOG_PREFIX.sub("", server.stderr.read_text())
    return re.sub(r"pid: \d+|\(\d+\)|127\.0\.0\.1:\d+|/\S+gunicorn\.ctl", "…", shown).splitlines()


def stop_politely(server: Server) -> None:
    """Send SIGTERM to the arbiter alone, as an operator does, and wait until it has left."""
    os.kill(server.pid, signal.SIGTERM)
    eventually(lambda: server.process.poll() is not None, server.report)


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
    views = "django.contrib.admin.sites"
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


# --- hooks of the user's own


class Hooked:
    """A server on `programs/user_hooks.py`, and the names that its hooks have noted."""

    def __init__(self, server: Server, notes: Path) -> None:
        self.server = server
        self._notes = notes

    def noted(self) -> Counter[str]:
        """Return how often each hook ran."""
        return Counter(self._notes.read_text().split() if self._notes.exists() else [])

    def wait_for_note(self, name: str, count: int = 1) -> None:
        """Wait until a hook has run so many times."""
        eventually(
            lambda: self.noted()[name] >= count,
            lambda: f"{name} not noted: {self.noted()}\n{self.server.report()}",
        )


@contextlib.contextmanager
def hooked(directory: Path, command: list[str], **environment: str) -> Iterator[Hooked]:
    """Start `plain_wsgi` under a configuration that defines every hook."""
    notes = directory / "notes"
    with gunicorn(
        "plain_wsgi",
        directory,
        *("-c", str(PROGRAMS / "user_hooks.py")),
        command=command,
        HOOKS_LOG=str(notes),
        **environment,
    ) as server:
        yield Hooked(server, notes)


def live_through_every_hook(site: Hooked) -> None:
    """Take a server through a whole life, so that each hook has its reason to run."""
    server = site.server

    def ask(count: int) -> None:
        server.get("/ok/")
        # The answer is out before the last hook has run; a signal in between would cost that.
        site.wait_for_note("post_request", count)

    ask(1)
    [worker] = server.workers()
    os.kill(worker, signal.SIGQUIT)
    site.wait_for_note("child_exit", 1)
    site.wait_for_note("post_worker_init", 2)
    [worker] = server.workers()
    os.kill(worker, signal.SIGABRT)
    site.wait_for_note("child_exit", 2)
    site.wait_for_note("post_worker_init", 3)
    ask(2)
    os.kill(server.pid, signal.SIGHUP)
    site.wait_for_note("child_exit", 3)
    site.wait_for_note("post_worker_init", 4)
    ask(3)
    stop_politely(server)


@pytest.fixture(scope="module")
def life_without_us(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each hook runs in a plain Gunicorn."""
    with hooked(tmp_path_factory.mktemp("plain"), GUNICORN) as site:
        live_through_every_hook(site)
    assert len(site.noted()) == 14, f"a hook was not reached: {site.noted()}"
    return site.noted()


@pytest.mark.parametrize(
    ("command", "star_import"),
    [
        (GUNICORN, "before"),
        (GUNICORN, "after"),
        ([*INSTRUMENT, *GUNICORN], ""),
        ([*INSTRUMENT, *GUNICORN], "before"),
    ],
    ids=["import-first", "import-last", "instrument", "both"],
)
def test_users_hooks_run_as_often_as_without_us(
    command: list[str], star_import: str, life_without_us: Counter[str], tmp_path: Path
) -> None:
    """Each hook of the user's runs, once per occasion, whichever way we came in."""
    with hooked(tmp_path, command, STAR_IMPORT=star_import) as site:
        live_through_every_hook(site)
        lines = site.server.lines()
    assert site.noted() == life_without_us
    assert [line["resp_status"] for line in lines] == ["200"] * 3


@pytest.mark.parametrize("parameters", ["2", "3", "4"])
def test_facts_of_users_hooks_are_on_line_when_post_request_takes(
    parameters: str, tmp_path: Path
) -> None:
    """Two, three or four parameters: what the hooks set is on the line, and a raise costs no line."""
    with hooked(tmp_path, [*INSTRUMENT, *GUNICORN], POST_REQUEST=parameters) as site:
        paths = ("/ok/", "/pre-request-raises/", "/post-request-raises/", "/ok/")
        statuses = [site.server.get(path).status for path in paths]
        lines = site.server.wait_for_lines(4)
        stop_politely(site.server)
        assert len(site.server.lines()) == 4
    assert statuses == [200, 500, 404, 200]
    assert [line["resp_status"] for line in lines] == ["200", "500", "404", "200"]
    assert [line["app_before"] for line in lines] == list(paths)
    assert [line["app_after"] for line in lines] == list(paths)
    assert [line.get("exc_msg") for line in lines] == [None, "in pre_request", None, None]
    expected = ["200", None, None, "200"] if parameters == "4" else [None] * 4
    assert [line.get("app_status") for line in lines] == expected


# --- however Gunicorn is started


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
    assert (first["req_route"], first["resp_view"]) == ("queries/", "every_kind.queries")
    assert int(first["db_queries"]) >= 5
    assert (second["resp_status"], second["exc_msg"]) == ("500", "Oh noes!")


@pytest.mark.parametrize(
    ("in_file", "preload"),
    [(True, False), (True, True), (False, False), (False, True)],
    ids=["raw_env", "raw_env-preload", "flag", "flag-preload"],
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


# --- beside other distros, and switched off


def test_ours_wins_when_another_distro_is_installed(tmp_path: Path) -> None:
    """`opentelemetry-distro` is installed here, and there is neither a choice to make nor a warning."""
    pytest.importorskip("opentelemetry.distro")
    with gunicorn("plain_wsgi", tmp_path, workers=2) as server:
        server.get("/ok/")
        [line] = server.wait_for_lines(1)
        stop_politely(server)
    assert line["resp_status"] == "200"
    assert {text.split()[0] for text in said(server)} == {"[INFO]"}


@pytest.mark.parametrize("configurator", ["configurator", "otel_canonical"])
def test_lines_come_when_user_names_other_distro(configurator: str, tmp_path: Path) -> None:
    """OTEL_PYTHON_DISTRO is the user's choice: its SDK, our lines.

    OpenTelemetry takes whichever configurator it finds first, so both must do.
    """
    pytest.importorskip("opentelemetry.distro")
    with gunicorn(
        "every_kind",
        tmp_path,
        OTEL_PYTHON_DISTRO="distro",
        OTEL_PYTHON_CONFIGURATOR=configurator,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        DJANGO_SETTINGS_MODULE="every_kind",
        SITE_DIRECTORY=str(tmp_path),
    ) as server:
        assert server.get("/ok/").status == 200
        [line] = server.wait_for_lines(1)
        stop_politely(server)
    span = server.stdout.read_text()
    assert (line["req_route"], line["resp_status"], line["sampled"]) == ("ok/", "200", "true")
    assert span.count('"kind": "SpanKind.SERVER"') == 1
    assert f'"span_id": "0x{line["span_id"]}"' in span


def test_lines_come_when_sdk_is_disabled(tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED switches OpenTelemetry off, not the lines."""
    with gunicorn(
        "every_kind", tmp_path, OTEL_SDK_DISABLED="true", SITE_DIRECTORY=str(tmp_path)
    ) as server:
        server.get("/queries/")
        server.get("/raises/")
        first, second = server.wait_for_lines(2)
        stop_politely(server)
    assert (first["req_route"], first["resp_status"]) == ("queries/", "200")
    assert int(first["db_queries"]) >= 5
    assert second["exc_type"] == "Error"
    assert "span_id" not in first or first["sampled"] == "false"
    assert "WARNING" not in server.report()


@pytest.mark.parametrize("way", ["environment", "raw_env", "preload"])
def test_no_line_when_switched_off(way: str, tmp_path: Path) -> None:
    """`OTEL_PYTHON_CANONICAL_ENABLED=false`: the site works, and nothing of ours is seen."""
    off = {"OTEL_PYTHON_CANONICAL_ENABLED": "false"}
    arguments = (
        [f"--env={name}={value}" for name, value in off.items()] if way != "environment" else []
    )
    with gunicorn(
        "every_kind",
        tmp_path,
        *arguments,
        *(["--preload"] if way == "preload" else []),
        SITE_DIRECTORY=str(tmp_path),
        **(off if way == "environment" else {}),
    ) as server:
        paths = ("/ok/", "/facts/", "/queries/", "/partial/", "/raises/", "/good-template/")
        assert [server.get(path).status for path in paths] == [200, 500, 200, 200, 500, 200]
        stop_politely(server)
    assert server.stdout.read_text() == ""
    assert "otel-canonical" not in server.report()


# --- processes that are no Gunicorn


@pytest.mark.parametrize(
    "command",
    [
        ["-c", "print('hello')"],
        ["manage.py", "check"],
        [
            "manage.py",
            "shell",
            "-c",
            "import otel_canonical as o; o.set('a', 1); print(o.get('a'))",
        ],
    ],
    ids=["python", "manage", "shell"],
)
def test_nothing_is_said_when_process_is_no_gunicorn(
    command: list[str], mysite: Path, tmp_path: Path
) -> None:
    """Output and exit status are those of the same command without us."""
    environment = clean_environment(tmp_path, {})
    plain, instrumented = (
        subprocess.run(
            [*before, sys.executable, *command],
            capture_output=True,
            cwd=mysite,
            env=environment,
            check=True,
        )
        for before in ([], INSTRUMENT)
    )
    assert (instrumented.stdout, instrumented.stderr) == (plain.stdout, plain.stderr)
    assert plain.stdout


def test_nothing_is_said_when_view_starts_another_python(tmp_path: Path) -> None:
    """A child of a worker inherits our environment, and is left alone."""
    with gunicorn("plain_wsgi", tmp_path) as server:
        answer = server.get("/spawn/")
        server.wait_for_lines(1)
        stop_politely(server)
    assert (answer.status, answer.body) == (200, b"child\n")
    assert server.stdout.read_text().count("\n") == 1


# --- what the user chose, and mistakes in it


def test_flag_of_opentelemetry_instrument_is_a_setting(tmp_path: Path) -> None:
    """`opentelemetry-instrument --canonical_max_line 600 gunicorn …` bounds the line."""
    command = [*INSTRUMENT, "--canonical_max_line", "600", *GUNICORN]
    with gunicorn("plain_wsgi", tmp_path, command=command) as server:
        server.get("/ok/", User_Agent="long " * 400)
        [line] = server.wait_for_lines(1)
    assert len(server.stdout.read_bytes()) <= 600
    assert line["truncated"] == "true"
    assert "WARNING" not in server.report()


@pytest.mark.parametrize(
    "command", [[*INSTRUMENT, *GUNICORN], GUNICORN], ids=["instrument", "hooks"]
)
def test_one_warning_each_when_settings_are_wrong(command: list[str], tmp_path: Path) -> None:
    """A bad value and an unknown name: one warning for all workers, the default, and lines."""
    with gunicorn(
        "plain_wsgi",
        tmp_path,
        *with_hooks_file(tmp_path),
        command=command,
        workers=2,
        OTEL_PYTHON_CANONICAL_MAX_LINE="abc",
        OTEL_PYTHON_CANONICAL_MAXLINE="900",
    ) as server:
        server.get("/ok/")
        server.wait_for_lines(1)
        stop_politely(server)
    warnings = [text for text in said(server) if not text.startswith("[INFO]")]
    assert warnings == [
        "[WARNING] OTEL_PYTHON_CANONICAL_MAX_LINE='abc' is not a number of bytes; "
        "using the default, 4096",
        "[WARNING] OTEL_PYTHON_CANONICAL_MAXLINE is not a setting of otel-canonical; it is ignored",
    ]


@pytest.mark.parametrize("preload", [False, True], ids=["plain", "preload"])
def test_users_own_error_is_shown_when_app_cannot_be_imported(
    preload: bool, tmp_path: Path
) -> None:
    """The first and only error is the user's, as without us."""
    arguments = ["--preload"] if preload else []
    errors = []
    for command in (GUNICORN, [*INSTRUMENT, *GUNICORN]):
        process = subprocess.run(
            [*command, "--bind", "127.0.0.1:0", *arguments, "breaks_on_import"],
            capture_output=True,
            cwd=PROGRAMS,
            env=clean_environment(tmp_path, {}),
            check=False,
        )
        text = process.stderr.decode()
        errors.append(
            (process.returncode, re.findall(r"^\w*Error.*|^Traceback.*", text, re.MULTILINE))
        )
        assert process.stdout == b""
    plain, ours = errors
    assert ours == plain
    assert plain[0] != 0
    assert "no_such_package" in ours[1][1]


def test_access_log_is_left_alone(tmp_path: Path) -> None:
    """Gunicorn's own `--access-logfile -` writes its line beside ours, and the app prints there."""
    with gunicorn("plain_wsgi", tmp_path, "--access-logfile", "-") as server:
        server.get("/prints/")
        server.wait_for_lines(1)
        stop_politely(server)
    others = [
        text
        for text in server.stdout.read_text().splitlines()
        if not text.startswith("event_type=request ")
    ]
    printed, access = others
    assert printed == "printed by the application"
    assert '"GET /prints/ HTTP/1.1" 200' in access

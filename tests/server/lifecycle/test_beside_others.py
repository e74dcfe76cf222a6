"""Other distros, programs that are no Gunicorn, wrong settings and being switched off change nothing else."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT, clean_environment
from tests.support.operating import stop_politely
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import GUNICORN, PROGRAMS, gunicorn
from tests.support.soak import some_of
from tests.support.ways_to_start import said, with_hooks_file


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
    assert "span_id" not in first
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
        if " event_type=request " not in text
    ]
    printed, access = others
    assert printed == "printed by the application"
    assert '"GET /prints/ HTTP/1.1" 200' in access


#: What is exported, and the variables that say so.
EXPORTED = {
    "nothing": {},
    "disabled": {"OTEL_SDK_DISABLED": "true"},
    "no-logs": {"OTEL_LOGS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
    "no-app-logs": {
        "OTEL_PYTHON_CANONICAL_APP_LOGS": "false",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}",
    },
    "all": {"OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
}


@pytest.mark.soak
@pytest.mark.parametrize("exported", some_of(EXPORTED, "nothing", "no-app-logs", "all"))
def test_warnings_of_app_stay_on_stderr(exported: str, tmp_path: Path) -> None:
    """The logging instrumentation's handler would take them from a site without handlers."""
    environment = EXPORTED[exported]
    assert importlib.util.find_spec("opentelemetry.instrumentation.logging")
    with otlp_sink() as sink:
        settings = {name: text.format(endpoint=sink.endpoint) for name, text in environment.items()}
        with gunicorn("warns", tmp_path, **settings) as server:
            server.get("/a/")
            server.wait_for_lines(1)
            stop_politely(server)
        exported = [log.body for log in sink.logs if log.body == "warned of /a/"]
    assert server.stderr.read_text().count("warned of /a/") == 1
    exports_app_logs = list(environment) == ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert len(exported) == exports_app_logs


def test_program_that_is_no_gunicorn_exports_as_without_us(tmp_path: Path) -> None:
    """`opentelemetry-distro` beside us does for a cron job what it would do alone."""
    pytest.importorskip("opentelemetry.distro")
    with otlp_sink() as sink:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
        }
        ended = subprocess.run(
            [*INSTRUMENT, sys.executable, str(PROGRAMS / "cron.py")],
            capture_output=True,
            env=clean_environment(tmp_path, settings),
            check=True,
        )
        [span] = sink.spans
    assert (span.name, span.scope) == ("cleaning up", "cron")
    assert "telemetry.distro.name" not in span.resource
    assert (ended.stdout, ended.stderr) == (b"", b"")


def test_gunicorn_takes_its_own_config_option(tmp_path: Path) -> None:
    """`opentelemetry-instrument gunicorn --config FILE app`, as many projects document it."""
    configuration = tmp_path / "conf.py"
    configuration.write_text("raw_env = ['CAME_THROUGH=yes']\n")
    with gunicorn("plain_wsgi", tmp_path, "--config", str(configuration)) as server:
        assert server.ask("/ok/")[0].status == 200

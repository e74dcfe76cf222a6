"""docs/DEPLOYING.md: its files are read by the programs that they are for, and its start lines start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_canonical.event import logfmt
from tests.support.addresses import unused_address
from tests.support.documents import marked, start_line, start_project
from tests.support.environments import INSTRUMENT, clean_environment
from tests.support.peers.tools import REPOSITORY, require_tool
from tests.support.reading import run
from tests.support.servers import GUNICORN, Server, eventually, gunicorn, stop
from tests.support.soak import IS_SOAK

DOCUMENT = "docs/DEPLOYING.md"
TEXT = (REPOSITORY / DOCUMENT).read_text()
PROGRAMS = {"opentelemetry-instrument": INSTRUMENT[0], "gunicorn": GUNICORN[0]}


def block(language: str) -> str:
    """Return the only block in a language."""
    [found] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def deployment() -> dict[str, Any]:
    """Return the container of the Kubernetes example."""
    document = yaml.safe_load(block("yaml"))
    assert (document["apiVersion"], document["kind"]) == ("apps/v1", "Deployment")
    [container] = document["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def start_lines() -> dict[str, str]:
    """Return every start line of the document, by where it stands."""
    [docker] = re.findall(r"^CMD (\[.+\])$", block("dockerfile"), re.MULTILINE)
    [systemd] = re.findall(r"^ExecStart=(.+)$", block("ini"), re.MULTILINE)
    [websockets] = re.findall(r"^opentelemetry-instrument .+$", TEXT, re.MULTILINE)
    return {
        "docker": " ".join(json.loads(docker)),
        "kubernetes": " ".join(deployment()["command"]),
        "systemd": systemd.replace("/srv/shop/.venv/bin/", ""),
        "procfile": block("procfile").removeprefix("web: ").strip(),
        "websockets": websockets,
    }


@pytest.fixture(scope="module", name="site")
def site_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project with the configuration of the document."""
    directory = tmp_path_factory.mktemp("deploying")
    start_project(directory)
    configuration = marked(DOCUMENT, "gunicorn.conf.py").replace("/run/shop", str(directory))
    (directory / "gunicorn.conf.py").write_text(configuration)
    return directory


@pytest.fixture(scope="module", name="shop")
def running_shop(site: Path) -> Iterator[Server]:
    """The site, started as most of the document says, its lines in a file."""
    _, command, arguments, application = start_line(start_lines()["docker"])
    with gunicorn(
        application,
        site,
        *arguments,
        command=[PROGRAMS[word] for word in command],
        cwd=site,
        workers=2,
        OTEL_PYTHON_CANONICAL_OUTPUT=str(site / "lines.log"),
    ) as server:
        yield server


def lines_of(site: Path) -> list[dict[str, str]]:
    """Return the lines so far."""
    file = site / "lines.log"
    text = file.read_text() if file.exists() else ""
    return [logfmt.parse(line) for line in text.splitlines()]


def test_start_lines_are_the_same_everywhere() -> None:
    """But for the websockets', which names its class of worker."""
    lines = start_lines()
    websockets = lines.pop("websockets")
    assert set(lines.values()) == {
        "opentelemetry-instrument gunicorn --config gunicorn.conf.py mysite.wsgi"
    }
    assert "-k uvicorn_worker.UvicornWorker" in websockets


def test_shop_writes_lines(shop: Server, site: Path) -> None:
    """Started as documented, with the document's configuration, a request has its line."""
    shop.get("/", X_Request_ID="documented")
    eventually(
        lambda: [line for line in lines_of(site) if line["req_id"] == "documented"], shop.report
    )
    assert (site / "gunicorn.pid").read_text().strip() == str(shop.pid)


def test_websockets_start_line_writes_lines(site: Path, tmp_path: Path) -> None:
    """The ASGI application of a fresh project has lines under Uvicorn's worker."""
    _, command, arguments, application = start_line(start_lines()["websockets"])
    with gunicorn(
        application,
        tmp_path,
        *arguments,
        *("--pid", str(tmp_path / "gunicorn.pid")),  # the document's is another server's here
        command=[PROGRAMS[word] for word in command],
        cwd=site,
    ) as server:
        _, line = server.ask("/")
    assert line["resp_status"] == "200"


def test_development_shows_requests_as_a_person_reads_them(site: Path, tmp_path: Path) -> None:
    """The pipe of docs/APPLICATION.md: a request is a row of `otel-canonical tail`."""
    command = marked("docs/APPLICATION.md", "development").strip()
    # Gunicorn reads the directory's gunicorn.conf.py, whose pid file is another server's here.
    own = f"--bind 127.0.0.1:0 --pid {tmp_path / 'gunicorn.pid'}"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            ["bash", "-c", command],
            stdout=out,
            stderr=err,
            cwd=site,
            env=clean_environment(tmp_path, {"GUNICORN_CMD_ARGS": own}),
            start_new_session=True,
        )
    server = Server(process, tmp_path / "out", tmp_path / "err")
    try:
        address = server.wait_for(r"Listening at: http://([\d.]+):(\d+)")
        server.address = (address[1], int(address[2]))
        assert server.get("/").status == 200
        eventually(lambda: "200  GET /" in server.stdout.read_text(), server.report)
    finally:
        stop(process)


@pytest.mark.soak
def test_installing_from_a_clone_works(tmp_path: Path) -> None:
    """Extras exist; the long version runs each block in a fresh environment, one without an index."""
    extras = re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    for mark in ("clone", "wheels"):
        text = marked(DOCUMENT, mark).replace("/path/to/clone", str(REPOSITORY))
        for named in re.findall(r"\[([\w,]+)\]", text):
            assert set(named.split(",")) <= set(extras)
        if IS_SOAK:
            environment = tmp_path / mark
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            path = f"{environment / 'bin'}:{os.environ['PATH']}"
            subprocess.run(
                ["bash", "-e", "-c", text],
                check=True,
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
            )
            assert (environment / "bin" / "otel-canonical").exists()


def test_probes_answer(shop: Server) -> None:
    """Docker's and Kubernetes' probes say that this pool is ready."""
    [health] = re.findall(r"CMD (\[\"otel-canonical.+\])$", block("dockerfile"), re.MULTILINE)
    container = deployment()
    probes = [container[f"{kind}Probe"]["exec"]["command"] for kind in ("readiness", "liveness")]
    # An arbiter that has just started isn't: probes ask again.
    eventually(lambda: run("ready", str(shop.pid)).returncode == 0, shop.report)
    for words in [json.loads(health), *probes]:
        assert words[0] == "otel-canonical"
        done = run(words[1], str(shop.pid), *words[2:])
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing against it, its programs being where they are here."""
    verify = require_tool("systemd-analyze", "apt-get install systemd")
    unit = tmp_path / "shop.service"
    bin_directory = str(Path(INSTRUMENT[0]).parent)
    unit.write_text(
        block("ini").replace("/srv/shop/.venv/bin", bin_directory).replace("=shop", "=root")
    )
    done = subprocess.run([verify, "verify", unit], capture_output=True, text=True, check=False)
    assert "shop.service" not in done.stderr, done.stderr


def test_nginx_gives_id_and_queue_time(shop: Server, site: Path, tmp_path: Path) -> None:
    """A request through a real nginx has nginx's id, and the time from there to Gunicorn."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin") or require_tool(
        "nginx", "apt-get install nginx-light"
    )
    assert not isinstance(shop.address, str)
    host, port = shop.address
    location = block("nginx").replace("127.0.0.1:8000", f"{host}:{port}")
    listener = unused_address()
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"""
daemon off; pid {tmp_path}/nginx.pid; error_log stderr;
events {{ }}
http {{
    log_format ids $request_id;
    access_log {tmp_path}/access.log ids;
    client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
    fastcgi_temp_path {tmp_path}/fastcgi; uwsgi_temp_path {tmp_path}/uwsgi;
    scgi_temp_path {tmp_path}/scgi;
    server {{ listen {listener}; {location} }}
}}
"""
    )
    command = [program, "-p", tmp_path, "-c", configuration, "-e", "stderr"]
    log = tmp_path / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    own_host, _, own_port = listener.partition(":")
    try:
        proxied = Server(process, shop.stdout, shop.stderr, (own_host, int(own_port)))
        assert eventually(lambda: ask(proxied), log.read_text) == 200, log.read_text()
        access_log = tmp_path / "access.log"
        request_id = eventually(lambda: access_log.read_text().strip(), log.read_text)
        [line] = eventually(
            lambda: [line for line in lines_of(site) if line["req_id"] == request_id], shop.report
        )
    finally:
        stop(process)
    assert 0 <= float(line["req_queue_time"]) < 60
    assert line["req_host"] == "localhost"


def ask(server: Server) -> int:
    """Return the status of one request, 0 while nothing listens."""
    try:
        return server.get("/").status
    except ConnectionRefusedError:
        return 0


def test_logrotate_loses_no_line(shop: Server, site: Path, tmp_path: Path) -> None:
    """A real logrotate with the document's configuration: lines go on in a new file."""
    program = shutil.which("logrotate", path="/usr/sbin:/usr/bin") or require_tool(
        "logrotate", "apt-get install logrotate"
    )
    shop.get("/", X_Request_ID="rotated-0")
    eventually(lambda: "rotated-0" in (site / "lines.log").read_text(), shop.report)
    text = block("logrotate").replace("/run/shop", str(site)).replace("/var/log/shop", str(site))
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(text)
    configuration.chmod(0o644)
    site.chmod(0o755)
    subprocess.run([program, "--force", "-s", tmp_path / "state", configuration], check=True)
    sent = ["rotated-0"]

    def asks_and_looks() -> bool:
        sent.append(f"rotated-{len(sent)}")
        shop.get("/", X_Request_ID=sent[-1])
        return "rotated-" in (site / "lines.log").read_text()

    # The file is there once a worker has opened it anew, or has written to it.
    eventually(lambda: (site / "lines.log").exists(), shop.report)
    eventually(asks_and_looks, shop.report)
    assert "rotated-0" in (site / "lines.log.1").read_text()

    def ids() -> list[str]:
        both = (site / "lines.log.1").read_text() + (site / "lines.log").read_text()
        found = [logfmt.parse(line)["req_id"] for line in both.splitlines()]
        return sorted(name for name in found if name.startswith("rotated-"))

    eventually(lambda: len(ids()) >= len(sent), shop.report)
    assert ids() == sorted(sent)

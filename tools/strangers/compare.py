"""Serves applications that others have written and compares every line with an independent probe.

    python tools/strangers/compare.py [wagtail] [djoser] [oscar]

Each application is installed from PyPI into `.cache/strangers`, and asked for its pages by a visitor and by a
user who is logged in, under sync and gthread workers. Status, bytes, route, view, queries and user of
each line are compared with what `probe.py` has seen, and its times must add up, by place and by state. Every
difference is printed; the exit status says whether there was one. So are the queries that lines call
repeated, with the line of code that they blame.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sites import COMMON, CONTENT, SITES, WSGI, Site

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))
from tests.support import time_sums  # noqa: E402  # found by the line above

CACHE = REPOSITORY / ".cache" / "strangers"
PATIENCE_S = 120.0
CLASSES = {"sync": ["-k", "sync"], "gthread": ["-k", "gthread", "--threads", "4"]}
ROUNDS = 2


def python_of(name: str) -> str:
    """Return the Python of an environment with the application in it, made when it is missing."""
    environment = CACHE / name
    python = environment / "bin" / "python"
    if not (environment / ".installed").exists():
        print(f"Installing {', '.join(SITES[name].packages)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        wanted = ("-e", str(REPOSITORY), "Django>=5.2,<5.3", *SITES[name].packages)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        (environment / ".installed").touch()
    return str(python)


def prepare(python: str, site: Site, home: Path, environment: dict[str, str]) -> None:
    """Write the site's modules, make its tables, a user, and what the site has to show."""
    if site.start:
        run(
            [str(Path(python).parent / site.start.split()[0]), *site.start.split()[1:]],
            home,
            environment,
        )
    (home / "site_settings.py").write_text(COMMON + site.settings)
    (home / "site_urls.py").write_text(site.urls)
    (home / "site_wsgi.py").write_text(WSGI)
    (home / "probe.py").write_text((Path(__file__).parent / "probe.py").read_text())
    user = "createsuperuser --noinput --username ada --email ada@example.com"
    for command in ("migrate", user):
        words = [*shlex.split(command), "--verbosity", "0"]
        run([python, "-m", "django", *words], home, environment)
    run([python, "-c", CONTENT + site.content], home, environment)


def run(command: list[str], home: Path, environment: dict[str, str]) -> str:
    """Run a command in the site's directory; return what it printed."""
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def session_of(python: str, home: Path, environment: dict[str, str]) -> str:
    """Return a session in which the user is logged in, without asking any page."""
    code = """
import django; django.setup()
from django.contrib.auth import get_user_model, SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
user = get_user_model().objects.get(username="ada"); session = SessionStore()
session[SESSION_KEY] = str(user.pk); session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash(); session.save(); print(session.session_key)
"""
    return run([python, "-c", code], home, environment).strip()


def ask_all(
    python: str, site: Site, arguments: list[str], home: Path, environment: dict[str, str], key: str
) -> list[str]:
    """Serve the site and ask for all of its pages; return the lines."""
    out, err = home / "lines", home / "stderr"
    scripts = Path(python).parent
    command = [str(scripts / "opentelemetry-instrument"), str(scripts / "gunicorn")]
    options = ["--bind", "127.0.0.1:0", "--timeout", "120", "site_wsgi:application"]
    with out.open("wb") as lines, err.open("wb") as errors:
        server = subprocess.Popen(
            [*command, *arguments, *options],
            stdout=lines,
            stderr=errors,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
    try:
        port = _wait_for(err, r"Listening at: http://127\.0\.0\.1:(\d+)")
        number = 0
        for _ in range(ROUNDS):
            for cookie in ("", f"sessionid={key}"):
                for path in site.paths:
                    number += 1
                    connection = http.client.HTTPConnection(
                        "127.0.0.1", int(port), timeout=PATIENCE_S
                    )
                    headers = {
                        "X-Request-ID": f"r{number}",
                        **({"Cookie": cookie} if cookie else {}),
                    }
                    connection.request("GET", path, headers=headers)
                    connection.getresponse().read()
                    connection.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE_S)
    return out.read_text().splitlines()


def _wait_for(file: Path, pattern: str) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := re.search(pattern, file.read_text()):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"{pattern} never appeared:\n{file.read_text()}")


def differences(lines: list[str], probed: list[str]) -> tuple[int, list[str]]:
    """Return how many requests were compared, and what is different."""
    found = {line["req_id"]: line for line in map(json.loads, lines)}
    different = []
    probes = [json.loads(text) for text in probed]
    for probe in probes:
        line = found.pop(probe["req_id"], None)
        if line is None:
            different.append(f"{probe['req_id']}: no line")
            continue
        seen = {
            key: line.get(key)
            for key in ("resp_status", "resp_bytes", "req_route", "user_id", "db_queries")
        }
        seen["db_queries"] = seen["db_queries"] or 0
        wanted = {key: probe.get(key) for key in seen}
        wanted["db_queries"] = wanted["db_queries"] or 0
        different += [
            f"{line['req_path']}: {key} {seen[key]!r}, probe {wanted[key]!r} "
            f"(and {probe.get('transactions', 0)} of transaction control)"
            for key in seen
            if seen[key] != wanted[key]
        ]
        view = line.get("resp_view")
        if "views" in probe and not any(str(view).endswith(f".{name}") for name in probe["views"]):
            different.append(f"{line['req_path']}: resp_view {view!r}, probe {probe['views']}")
    different += [f"{line['req_path']}: the probe has not seen it" for line in found.values()]
    return len(probes), different


def suspects(lines: list[str]) -> list[str]:
    """Return each repeated query that lines complain of, with the line of code that they blame."""
    found = {
        (line["req_path"], line["db_n1_count"], line.get("db_n1_loc"), line["db_n1"])
        for line in map(json.loads, lines)
        if "db_n1" in line
    }
    worst: dict[tuple[str, str | None], str] = {}
    for path, count, place, text in sorted(found, key=str):
        worst[path, place] = f"{path}: {count} x at {place}: {text[:160]}"
    return list(worst.values())


def wrong_sums(lines: list[str]) -> tuple[list[time_sums.Sums], list[str]]:
    """Return what the times of requests come to, and those that don't add up or are negative."""
    sums, wrong = [], []
    for line in map(json.loads, lines):
        if "view_time" not in line:
            continue
        sums.append(time_sums.sums_of(line))
        if not sums[-1].are_right():
            wrong.append(f"{line['req_path']}: its times don't add up: {sums[-1]}")
        wrong += [f"{line['req_path']}: {key} is negative" for key in time_sums.negative_keys(line)]
    return sums, wrong


def compare(name: str) -> int:
    """Compare one application under each worker class; return the number of differences."""
    site = SITES[name]
    python = python_of(name)
    total = 0
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
        home = Path(scratch)
        environment = {
            "PATH": f"{Path(python).parent}:/usr/bin:/bin",
            "HOME": scratch,
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "DJANGO_SUPERUSER_PASSWORD": "only-for-a-comparison",
            "OTEL_PYTHON_CANONICAL_FORMAT": "json",
            "PYTHONPATH": scratch,
        }
        prepare(python, site, home, environment)
        key = session_of(python, home, environment)
        for worker, arguments in CLASSES.items():
            output = home / f"{worker}.probe"
            lines = ask_all(
                *(python, site, arguments, home),
                *({**environment, "PROBE_OUTPUT": str(output)}, key),
            )
            count, different = differences(lines, output.read_text().splitlines())
            sums, wrong = wrong_sums(lines)
            different += wrong
            print(f"{name}, {worker}: {count} requests, {len(different)} differences", flush=True)
            print(f"  times: {time_sums.summary(sums)}", flush=True)
            for text in suspects(lines):
                print(f"  repeated query, {text}")
            for text in sorted(set(different)):
                print(f"  {different.count(text)} x {text}")
            total += len(different)
    return total


def main() -> int:
    """Compare the applications that were asked for, else all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SITES])
    arguments = parser.parse_args()
    return 1 if sum(compare(name) for name in arguments.names or SITES) else 0


if __name__ == "__main__":
    sys.exit(main())

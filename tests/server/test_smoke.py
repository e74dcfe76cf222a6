"""The shortest proof that an installation works: each kind of answer has its one right line.

Needs little but pytest and the package, so that it runs with every Python, Django and Gunicorn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import django
import pytest

from tests.support.servers import GUNICORN_VERSION, Line, Server, eventually, gunicorn

#: Path, status, and what the line must say beside them.
VISITS = (
    ("/ok/", 200, {"req_route": "ok/", "resp_view": "every_kind.ok"}),
    ("/no-such-page/", 404, {}),
    ("/raises/", 500, {"req_route": "raises/", "exc_type": "Error", "exc_msg": "Oh noes!"}),
    ("/bad-template/", 500, {"exc_template": "bad_part.html:3"}),
    ("/queries/", 200, {"db_dup_queries": "2"}),
    ("/stream/", 200, {"db_queries": "3", "resp_bytes": "6"}),
    ("/async-view/", 200, {"app_async": "true"}),
)
#: `rows.html#row`: a partial is a template of its own, or a part of the render around it.
PARTIALS = (
    (
        "/partial-page/",
        200,
        {
            "tpl_renders": "1",
            "db_n1_count": "6",
            "db_n1_loc": "rows.html:3 < every_kind_partials.py:19:partial_page",
        },
    ),
    ("/partial-alone/", 200, {"tpl_renders": "2"}),
    ("/partial-page-fails/", 500, {"tpl_renders": "1", "exc_template": "bad_rows.html:4"}),
    ("/partial-alone-fails/", 500, {"tpl_renders": "1", "exc_template": "bad_rows.html:4"}),
)
if django.VERSION >= (6,):
    VISITS += PARTIALS


#: What a Gunicorn's own ASGI worker can't answer for Django, with or without us: 24.1 never ends a stream
#: without a length, and 25.3 cancels every view of Django's.
UNANSWERED_BY_ASGI = {24: {"/stream/"}, 25: {path for path, _, _ in VISITS}}

#: Of gevent's workers Django refuses its queries, with or without us: their threads are one for the event loop.
AWAITS_TASK = "/awaits-task/"
TWO_QUERIES = {"db_queries": "2", "db_dup_queries": "2"}
#: Background tasks that run before the response is out are the request's, whether or not they fail.
TASKS = (
    ("/runs-task/", "SUCCESSFUL", TWO_QUERIES),
    ("/commits-task/", "committed", TWO_QUERIES),
    (AWAITS_TASK, "SUCCESSFUL", TWO_QUERIES),
    ("/fails-task/", "FAILED", {"log_errors": "1"}),
)


@dataclass(frozen=True, slots=True)
class WorkerClass:
    """How a worker class is chosen, and what it needs beside Gunicorn."""

    arguments: tuple[str, ...]
    needs: str = "gunicorn"
    app: str = "every_kind"
    since_django_6: str = "since_django_6:application"


ASGI = {"app": "every_kind_asgi", "since_django_6": "since_django_6:asgi_application"}
WORKER_CLASSES = {
    "sync": WorkerClass(("-k", "sync")),
    "gthread": WorkerClass(("-k", "gthread", "--threads", "4")),
    "gevent": WorkerClass(("-k", "gevent"), needs="gevent"),
    "gevent_pywsgi": WorkerClass(
        ("-k", "gunicorn.workers.ggevent.GeventPyWSGIWorker"), needs="gevent"
    ),
    # Gunicorn has it since 24.
    "asgi": WorkerClass(("-k", "asgi"), "gunicorn.asgi", **ASGI),
    "uvicorn": WorkerClass(("-k", "uvicorn_worker.UvicornWorker"), "uvicorn_worker", **ASGI),
}


def usable(name: str) -> tuple[WorkerClass, set[str]]:
    """Return a worker class that this environment has, and which visits it can't answer."""
    worker_class = WORKER_CLASSES[name]
    pytest.importorskip(worker_class.needs, reason=f"{worker_class.needs} is not here")
    unanswered = UNANSWERED_BY_ASGI.get(GUNICORN_VERSION[0], set()) if name == "asgi" else set()
    if unanswered.issuperset(path for path, _, _ in VISITS):
        pytest.skip(f"Gunicorn {GUNICORN_VERSION[0]}'s ASGI worker can't serve Django without us")
    return worker_class, unanswered


@pytest.mark.parametrize("name", WORKER_CLASSES)
def test_each_answer_has_one_right_line(name: str, tmp_path: Path) -> None:
    """Answers, failures and a stream, through a real Gunicorn with nothing configured."""
    worker_class, unanswered = usable(name)
    visits = [visit for visit in VISITS if visit[0] not in unanswered]
    with gunicorn(
        worker_class.app, tmp_path, *worker_class.arguments, SITE_DIRECTORY=str(tmp_path)
    ) as server:
        for path, status, more in visits:
            answer, line = server.ask(path)
            assert answer.status == status, server.report()
            expected = {
                "event_type": "request",
                "req_path": path,
                "resp_status": str(status),
                **more,
            }
            assert {key: line.get(key) for key in expected} == expected
        server.wait_for_lines(len(visits))


@contextlib.contextmanager
def site_since_django_6(name: str, directory: Path) -> Iterator[Server]:
    """Serve it with a worker class that can."""
    worker_class, _ = usable(name)
    with gunicorn(
        worker_class.since_django_6,
        directory,
        *worker_class.arguments,
        SITE_DIRECTORY=str(directory),
        DJANGO_SETTINGS_MODULE="since_django_6",
    ) as server:
        yield server


@pytest.mark.parametrize("name", WORKER_CLASSES)
def test_background_task_is_the_requests_until_its_response(name: str, tmp_path: Path) -> None:
    """What it asks, sets and logs is on the line; of a task that goes on behind the response nothing is."""
    visits = [visit for visit in TASKS if not ("gevent" in name and visit[0] == AWAITS_TASK)]
    with site_since_django_6(name, tmp_path) as server:
        for path, said, facts in visits:
            answer, line = server.ask(path)
            assert answer.body.decode() == said, server.report()
            assert facts_of_task(line) == facts
            assert ("app_task_ran_in" in line) == ("db_queries" in facts)

        _, outlived = server.ask("/outlived/")
        (tmp_path / "begin").touch()
        eventually((tmp_path / "begin.done").exists, server.report)
        _, later = server.ask("/page/")
        for line in (outlived, later):
            assert facts_of_task(line) == {}
            assert "app_task_ran_in" not in line
        server.wait_for_lines(len(visits) + 2)


def facts_of_task(line: Line) -> Line:
    """Return what a background task can bring to a line."""
    brought = ("db_queries", "db_dup_queries", "log_errors", "exc_type")
    return {key: line[key] for key in brought if key in line}


@pytest.mark.parametrize("name", WORKER_CLASSES)
def test_content_security_policy_is_as_django_makes_it(name: str, tmp_path: Path) -> None:
    """The nonce of the page is that of its header, another one each time, and on no line."""
    nonces = set()
    with site_since_django_6(name, tmp_path) as server:
        for path in ("/page/", "/async-page/", "/page/"):
            answer, line = server.ask(path)
            # Some servers of ASGI send names of headers in small letters.
            headers = {name.lower(): value for name, value in answer.headers.items()}
            policy = headers["content-security-policy"]
            nonce = policy.removeprefix("script-src 'self' 'nonce-").removesuffix("'")
            assert answer.body.decode() == f"<script nonce={nonce}></script>"
            nonces.add(nonce)
            assert line["tpl_renders"] == "1"
            assert float(line["mw_time"]) >= 0
            assert nonce not in str(line)
    assert len(nonces) == 3


if django.VERSION < (6,):
    # Not skipped: nothing is missing here.
    del test_background_task_is_the_requests_until_its_response
    del test_content_security_policy_is_as_django_makes_it

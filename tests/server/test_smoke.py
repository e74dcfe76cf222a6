"""The shortest proof that an installation works: each kind of answer has its one right line.

Needs little but pytest and the package, so that it runs with every Python, Django and Gunicorn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import django
import pytest

from tests.support.servers import GUNICORN_VERSION, gunicorn

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


@dataclass(frozen=True, slots=True)
class WorkerClass:
    """How a worker class is chosen, and what it needs beside Gunicorn."""

    arguments: tuple[str, ...]
    needs: str = "gunicorn"
    app: str = "every_kind"


WORKER_CLASSES = {
    "sync": WorkerClass(("-k", "sync")),
    "gthread": WorkerClass(("-k", "gthread", "--threads", "4")),
    "gevent": WorkerClass(("-k", "gevent"), needs="gevent"),
    "gevent_pywsgi": WorkerClass(
        ("-k", "gunicorn.workers.ggevent.GeventPyWSGIWorker"), needs="gevent"
    ),
    # Gunicorn has it since 24.
    "asgi": WorkerClass(("-k", "asgi"), needs="gunicorn.asgi", app="every_kind_asgi"),
    "uvicorn": WorkerClass(
        ("-k", "uvicorn_worker.UvicornWorker"), needs="uvicorn_worker", app="every_kind_asgi"
    ),
}


@pytest.mark.parametrize("name", WORKER_CLASSES)
def test_each_answer_has_one_right_line(name: str, tmp_path: Path) -> None:
    """Answers, failures and a stream, through a real Gunicorn with nothing configured."""
    worker_class = WORKER_CLASSES[name]
    pytest.importorskip(worker_class.needs, reason=f"{worker_class.needs} is not here")
    unanswered = UNANSWERED_BY_ASGI.get(GUNICORN_VERSION[0], set()) if name == "asgi" else set()
    visits = [visit for visit in VISITS if visit[0] not in unanswered]
    if not visits:
        pytest.skip(f"Gunicorn {GUNICORN_VERSION[0]}'s ASGI worker can't serve Django without us")
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

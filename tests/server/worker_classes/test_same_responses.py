"""Every page of the demo shop is answered the same with us as without, under each worker class."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.demo_shop import shop_database
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import DEMO, GUNICORN, Answer, Line, Server, eventually, gunicorn
from tests.support.soak import some_of
from tests.support.worker_classes import ASGI, CLASSES

GETS = """/ /static/catalog/shop.css /products/ /products/copper-kettle/ /api/products/ /report.csv
/slow/?seconds=0.2 /async/ /queries/10/ /broken/ /broken-template/ /recommendations/ /account/
/accounts/login/ /accounts/reset/MQ/c7x2ab-0123456789abcdef0123456789abcdef/ /admin/ /ok/ /healthz
/nowhere/""".split()
CART = b'{"product": "copper-kettle", "quantity": 12}'

#: The worker classes that are also asked while they export.
EXPORTING = some_of(CLASSES, "gthread", "asgi")

#: What differs from one answer to the next by itself.
VARYING = re.compile(rb'(name="csrfmiddlewaretoken" value="|"order": ")[^"]+')
OWN_HEADERS = {"date", "set-cookie", "expires"}


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """Return what of an answer must be the same."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    kept = {name: value for name, value in headers.items() if name not in OWN_HEADERS}
    return answer.status, kept, VARYING.sub(rb"\1", answer.body)


def ends(site: Server) -> list[Line]:
    """Return the lines that end a request."""
    return [line for line in site.lines() if line["event_type"] == "request"]


def paths_for(name: str) -> list[str]:
    """Return the pages that a worker class answers by itself.

    From CPython 3.14 on an async view under gevent never answers, in a bare Gunicorn either.
    """
    hangs = name.startswith("gevent") and sys.version_info >= (3, 14)
    return [path for path in GETS if path != "/async/" or not hangs]


def visit(site: Server, paths: list[str]) -> dict[str, tuple[int, dict[str, str], bytes]]:
    """Return every answer of the shop: asked one by one, then all at once."""
    answers = {f"alone {path}": told(site.get(path)) for path in paths}
    answers["cart"] = told(site.get("/cart/add/", "POST", CART))
    answers["host"] = told(site.get("/ok/", Host="attacker.example"))
    with ThreadPoolExecutor(20) as clients:
        # An async view holds asyncio's one loop per thread: under gevent, where others share the
        # thread, Django refuses them the database meanwhile, with or without us.
        others = [path for path in paths if path != "/async/"]
        together = clients.map(lambda path: told(site.get(path)), others)
        answers.update({f"together {n}": answer for n, answer in enumerate(together)})
    return answers


@pytest.mark.soak
@pytest.mark.parametrize("name", some_of(CLASSES, "gthread", "gevent", "asgi"))
def test_answers_are_the_same_with_us(name: str, tmp_path: Path) -> None:
    """Status, headers and body of every page, with and without an export."""
    app = "demo_shop.asgi:application" if name in ASGI else "demo_shop.wsgi:application"
    seen, database = {}, shop_database(tmp_path)
    with otlp_sink() as sink:
        for case, command, environment in (
            ("without", GUNICORN, {}),
            ("with", None, {}),
            ("exporting", None, {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint}),
        )[: 3 if name in EXPORTING else 2]:
            directory = tmp_path / case
            directory.mkdir()
            with gunicorn(
                app,
                directory,
                *CLASSES[name],
                command=command,
                cwd=DEMO,
                DEMO_DATABASE=str(database),
                **environment,
            ) as site:
                seen[case] = visit(site, paths_for(name))
                if case != "without":
                    asked = len(seen[case])
                    eventually(lambda: len(ends(site)) >= asked, site.report)  # noqa: B023
                    assert len(ends(site)) == asked
    without = seen.pop("without")
    for case, answers in seen.items():
        for what, answer in without.items():
            assert answers[what] == answer, (case, what)
    statuses = {path: without[f"alone {path}"][0] for path in paths_for(name)}
    assert statuses["/products/"] == statuses["/queries/10/"] == 200

"""The demo shop under a real Gunicorn, and the traffic of an ordinary day for it."""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from environments import REPOSITORY
from rows import Evidence, Row
from servers import Server, clean_variables
from traffic import Request, send_all

ENVIRONMENT = Path(sys.executable).parent.parent
SHOP = Row("shop", "", "the demo shop", Evidence.CANONICAL_LINE)
CONCURRENT = 8

PRODUCTS = [
    f"{finish}-{noun}"
    for finish in ("amber", "birch", "cobalt", "copper", "indigo", "linen", "moss", "slate")
    for noun in ("kettle", "lamp", "mug", "notebook", "teapot")
]
SYSTEMS = ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
BROWSERS = [
    *(
        f"Mozilla/5.0 ({system}; rv:{number}.0) Gecko/20100101 Firefox/{number}.0"
        for system in SYSTEMS
        for number in range(138, 144)
    ),
    *(
        f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{number}.0.0.0 Safari/537.36"
        for system in SYSTEMS
        for number in range(132, 142)
    ),
]
#: Of 100 requests: how many, path, status. `{product}` is any of the goods.
DAY = (
    (30, "/products/{product}/", 200),
    (20, "/", 200),
    (16, "/api/products/", 200),
    (10, "/healthz", 200),
    (6, "/queries/10/", 200),
    (5, "/cart/add/", 201),
    (4, "/account/", 302),
    (3, "/products/", 200),
    (3, "/nowhere/{product}/", 404),
    (2, "/recommendations/", 200),
    (1, "/broken/", 500),
)


def make_day(count: int) -> Iterator[Request]:
    """Yield `count` requests, the same ones every time."""
    dice = random.Random(count)
    for _ in range(count):
        ((_, path, status),) = dice.choices(DAY, [weight for weight, _, _ in DAY])
        product = dice.choice(PRODUCTS)
        headers = [f"User-Agent: {dice.choice(BROWSERS)}"]
        if dice.random() < 0.6:
            headers.append(f"Referer: https://shop.example/products/{dice.choice(PRODUCTS)}/")
        if path == "/healthz":
            headers = ["User-Agent: health-check/1.0"]
        body = json.dumps({"product": product, "quantity": 2}) if status == 201 else ""
        client = f"127.0.{dice.randrange(8)}.{dice.randrange(2, 250)}"
        yield Request(path.format(product=product), status, tuple(headers), client, body)


def visit(server: Server, count: int) -> None:
    """Send a day of `count` requests, a few at a time; those that write one by one, for SQLite."""
    requests = list(make_day(count))
    for at in range(0, count, CONCURRENT):
        part = requests[at : at + CONCURRENT]
        send_all(server.address, [request for request in part if not request.body])
        for request in part:
            if request.body:
                send_all(server.address, [request])


@contextlib.contextmanager
def open_shop(home: Path, workers: int, variables: Mapping[str, str]) -> Iterator[Server]:
    """Start the shop with a fresh database, ready; its lines go to `server.lines`."""
    home.mkdir(parents=True)
    environment = clean_variables(ENVIRONMENT) | {
        "HOME": str(home),
        "DEMO_DATABASE": str(home / "shop.sqlite3"),
        **variables,
    }
    for step in ("migrate", "seed_catalog"):
        subprocess.run(
            [sys.executable, REPOSITORY / "demo/manage.py", step, "--verbosity=0"],
            env=environment,
            check=True,
        )
    command = ["opentelemetry-instrument", "gunicorn", "demo_shop.wsgi", "--chdir", "demo"]
    with (home / "stdout.log").open("wb") as lines, (home / "stderr.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1:0", "--workers", str(workers)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=log,
            start_new_session=True,
        )
    server = Server(SHOP, process, home)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def read_lines(server: Server, sent: int) -> list[bytes]:
    """Return the lines of a shop that has closed; fail unless each request has its one."""
    lines = server.lines.read_bytes().splitlines(keepends=True)
    is_ending = re.compile(
        rb'(?:ts=\S+ event_type=request |\{"ts":"[^"]+","event_type":"request",)'
    ).match
    ended = sum(is_ending(line) is not None for line in lines)
    if ended != sent:
        raise SystemExit(f"{sent} requests, {ended} lines\n{server.tail()}")
    return lines

"""The visitor, who sends every kind of request that the shop knows and keeps the answers."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import re
import socket
import struct
import urllib.parse
import uuid
from dataclasses import dataclass, field
from http.cookies import SimpleCookie

ANSWER_S = 15.0
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Sent:
    """One request as the client saw it, and the lines that the server wrote about it."""

    what: str
    note: str
    expected: int
    status: int
    req_id: str | None  # none when the server never got to read our header
    lines: list[str] = field(default_factory=list)


class Visitor:
    """A client that keeps its cookies and remembers what it sent."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.cookies = SimpleCookie()
        self.sent: list[Sent] = []
        self._prefix = f"demo-{uuid.uuid4().hex[:8]}"

    def next_id(self) -> str:
        return f"{self._prefix}-{len(self.sent) + 1:02}"

    def ask(
        self,
        request: str,
        expected: int,
        note: str,
        body: str | None = None,
        **headers: str,
    ) -> None:
        """Send one request, read all of its answer, and keep both."""
        method, path = request.split(" ", 1)
        req_id = self.next_id()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{c.key}={c.value}" for c in self.cookies.values())
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"X-Request-ID": req_id, **headers})
            response = connection.getresponse()
            response.read()
        for cookie in response.headers.get_all("Set-Cookie", []):
            self.cookies.load(cookie)
        self.sent.append(Sent(request, note, expected, response.status, req_id))

    def log_in(self, username: str, password: str) -> None:
        """Get the form, send it back; the cookies stay with this visitor."""
        self.ask("GET /accounts/login/", 200, "the login form")
        form = {"username": username, "password": password}
        if token := self.cookies.get("csrftoken"):  # none when the form was not served
            form["csrfmiddlewaretoken"] = token.value
        body = urllib.parse.urlencode(form)
        self.ask("POST /accounts/login/", 302, "ada logs in", body, Content_Type=FORM)

    def send_malformed(self) -> None:
        """Send what Gunicorn itself refuses: Django never hears of it."""
        with socket.create_connection((self.host, self.port), ANSWER_S) as raw:
            raw.sendall(b"GET /products/ HTTP/1.1\r\nHost: localhost\r\nBad Header: 1\r\n\r\n")
            status = read_status(raw)
        note = "a header name with a space: refused by Gunicorn itself"
        self.sent.append(Sent("GET /products/", note, 400, status, None))

    def leave_early(self) -> None:
        """Begin a download and reset the connection after its first bytes."""
        req_id = self.next_id()
        with socket.create_connection((self.host, self.port), ANSWER_S) as raw:
            raw.sendall(
                f"GET /report.csv HTTP/1.1\r\nHost: {self.host}\r\n"
                f"X-Request-ID: {req_id}\r\n\r\n".encode()
            )
            status = read_status(raw)
            # Lingering for zero seconds makes close() a reset: the server's next send fails.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        note = "the same download; the client leaves in the middle"
        self.sent.append(Sent("GET /report.csv", note, 200, status, req_id))


def read_status(raw: socket.socket) -> int:
    """Return the status of an answer on a bare socket; 0 when there is none."""
    head = b""
    while b"\r\n" not in head:
        part = raw.recv(512)
        if not part:
            break
        head += part
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
    return int(found[1]) if found else 0


def visit_everything(visitor: Visitor) -> None:
    """Send every kind of request that the shop knows."""
    ask = visitor.ask
    ask("GET /", 200, "the home page: a template and two queries")
    if importlib.util.find_spec("whitenoise"):
        ask("GET /static/catalog/shop.css", 200, "a static file: no view runs")
    ask("GET /products/", 200, "a list with an N+1: see db_dup_queries")
    ask(
        "GET /products/copper-kettle/",
        200,
        "one product, arriving with a Referer: see app_pricing_time",
        Referer="https://search.example/?q=kettle",
        User_Agent="Mozilla/5.0 (demo)",
    )
    cart = json.dumps({"product": "copper-kettle", "quantity": 12})
    ask("POST /cart/add/", 201, "JSON in; the app adds its own facts", cart)
    ask("GET /api/products/", 200, "an API called within a trace", traceparent=TRACEPARENT)
    ask("GET /report.csv", 200, "a streamed download: it queries while it is sent")
    visitor.leave_early()
    ask("GET /slow/?seconds=1.5", 200, "a view that sleeps")
    ask("GET /async/", 200, "an async view, under WSGI")
    ask("GET /queries/10/", 200, "ten runs of one query")
    ask("GET /broken/", 500, "raises two frames below the view")
    ask("GET /broken-template/", 500, "raises in an included template")
    ask("GET /recommendations/", 200, "a service is down, the page lives: partial_failure")
    ask("GET /account/", 302, "a page for members, asked by a stranger")
    visitor.log_in("ada", "analytical-engine")
    ask("GET /account/", 200, "the same page for ada: see user_id")
    visitor.cookies.clear()
    ask(
        "GET /accounts/reset/MQ/c7x2ab-0123456789abcdef0123456789abcdef/",
        200,
        "a password reset link: the path holds a token",
    )
    ask("GET /admin/", 302, "the admin, asked by a stranger")
    ask("GET /ok/", 200, "the least that Django can do")
    ask("GET /healthz", 200, "the load balancer's question")
    ask("GET /nowhere/", 404, "an address that nobody has")
    ask("GET /ok/", 400, "a Host that is not ours", Host="attacker.example")
    visitor.send_malformed()

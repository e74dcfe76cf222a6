"""Systems that an application calls, each real or as much of one as its client needs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.support.peers.tools import require_tool
from tests.support.servers import eventually

BUCKETS = (
    b'<?xml version="1.0"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Buckets></Buckets></ListAllMyBucketsResult>"
)
FOUND = b'{"took":1,"hits":{"total":{"value":0,"relation":"eq"},"hits":[]}}'


class _Handler(BaseHTTPRequestHandler):
    """Answers as a web site, as Elasticsearch (`/books/`) and as S3 (all else)."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer()

    def _answer(self) -> None:
        is_search = self.path.startswith("/books/")
        body = FOUND if is_search else BUCKETS
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if is_search else "application/xml")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def running_http() -> Iterator[str]:
    """Yield the address of a server that answers like a site, Elasticsearch and S3."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), name="callee")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def running_grpc() -> Iterator[str]:
    """Yield the address of a gRPC server that answers every call with what it was sent."""
    import grpc

    class Echo(grpc.GenericRpcHandler):
        def service(self, details: object) -> object:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@contextlib.contextmanager
def running_redis(directory: Path, *, is_cluster: bool = False) -> Iterator[int]:
    """Yield the port of a Redis, by itself or as a cluster of one."""
    program = require_tool("redis-server", "install Redis: `apt-get install redis-server`")
    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    if is_cluster:
        options += ["--cluster-enabled", "yes", "--cluster-port", str(_free_port())]
        options += ["--cluster-announce-ip", "127.0.0.1"]
    with (directory / f"redis-{port}.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        eventually(lambda: _answers(port), lambda: "no Redis")
        if is_cluster:
            _say(port, b"CLUSTER ADDSLOTSRANGE 0 16383\r\n")
            eventually(
                lambda: b"cluster_state:ok" in _say(port, b"CLUSTER INFO\r\n"), lambda: "no cluster"
            )
        yield port
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _say(port: int, command: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(command)
        return connection.recv(65536)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return _say(port, b"PING\r\n").startswith(b"+PONG")
    return False

"""An ASGI application that takes liberties: odd types, work behind its last byte, too long bodies."""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar

from uvicorn_worker import UvicornWorker


class RootedWorker(UvicornWorker):
    """Uvicorn's worker below a path, as its documentation says."""

    CONFIG_KWARGS: ClassVar = {**UvicornWorker.CONFIG_KWARGS, "root_path": "/rp"}


OK = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        return
    name = scope["path"].rpartition("/")[2]
    start = OK
    body = b"whole"
    if name == "text-client":
        scope["client"] = "somewhere"
    elif name == "odd-client":
        scope["client"] = 7
        scope["scheme"] = object()
    elif name == "text-headers":
        start = {**OK, "headers": [("content-type", "text/plain"), ("x-a", "b")]}
    elif name == "too-long":
        start = {**OK, "headers": [(b"content-length", b"5")]}
        body = b"whole, and more"
    await send(start)
    await send({"type": "http.response.body", "body": body})
    if name == "busy":
        print("busy", file=sys.stderr, flush=True)
        await asyncio.sleep(60)
    if name == "late":
        raise LookupError("behind the last byte")

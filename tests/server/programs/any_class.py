"""A Django site for every worker class: each answer, and each line, must have its own request's token.

`application` is its WSGI app, `asgi` its ASGI app. Async views are for the latter.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpResponse, StreamingHttpResponse

import otel_canonical

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ.get("SITE_DIRECTORY", ".")) / "any_class.sqlite3",
    }
}

#: Large enough that no socket's buffer takes it all.
CHUNK = b"x" * 16384
CHUNKS = 2000


def query(times):
    from django.db import connection

    with connection.cursor() as cursor:
        for _ in range(times):
            cursor.execute("SELECT 1")


def facts_of(request):
    """Set the request's token as a fact; return it and how many queries it asks for."""
    token = request.GET["t"]
    otel_canonical.set("mark", token)
    return token, int(request.GET.get("n", "0"))


def plain(request):
    token, queries = facts_of(request)
    query(queries)
    time.sleep(float(request.GET.get("s", "0")))
    otel_canonical.add("steps", queries)
    return HttpResponse(token)


async def async_plain(request):
    token, queries = facts_of(request)
    await sync_to_async(query)(queries)
    await asyncio.sleep(float(request.GET.get("s", "0")))
    otel_canonical.add("steps", queries)
    return HttpResponse(token)


def stream(request):
    token, queries = facts_of(request)

    def body():
        for character in token:
            time.sleep(float(request.GET.get("s", "0")) / len(token))
            yield character
        query(queries)

    return StreamingHttpResponse(body())


async def async_stream(request):
    token, queries = facts_of(request)

    async def body():
        for character in token:
            await asyncio.sleep(float(request.GET.get("s", "0")) / len(token))
            yield character
        await sync_to_async(query)(queries)

    return StreamingHttpResponse(body())


def raises(request):
    token, queries = facts_of(request)
    query(queries)
    time.sleep(float(request.GET.get("s", "0")))
    raise LookupError(token)


async def async_raises(request):
    token, queries = facts_of(request)
    await sync_to_async(query)(queries)
    await asyncio.sleep(float(request.GET.get("s", "0")))
    raise LookupError(token)


def long_stream(request):
    facts_of(request)

    def body():
        for _ in range(CHUNKS):
            yield CHUNK

    return StreamingHttpResponse(body())


async def async_long_stream(request):
    facts_of(request)

    async def body():
        for _ in range(CHUNKS):
            yield CHUNK
            await asyncio.sleep(0)

    return StreamingHttpResponse(body())


async def async_waits(request):
    """Wait for something that never comes; a client may leave meanwhile."""
    facts_of(request)
    await asyncio.sleep(60)


def crosses(request):
    """From a thread into the loop and into a thread again."""
    token, queries = facts_of(request)

    async def inner():
        await asyncio.sleep(float(request.GET.get("s", "0")))
        await sync_to_async(query)(queries)

    async_to_sync(inner)()
    return HttpResponse(token)


def wait_here(seconds):
    time.sleep(seconds)


async def async_wait_here(seconds):
    await asyncio.sleep(seconds)


async def async_blocks(request):
    """Hold the event loop."""
    wait_here(float(request.GET["s"]))
    return HttpResponse("unblocked")


async def async_gathers(request):
    await asyncio.gather(asyncio.sleep(0), async_wait_here(float(request.GET["s"])))
    return HttpResponse("gathered")


async def async_in_thread(request):
    await sync_to_async(wait_here)(float(request.GET["s"]))
    return HttpResponse("back")


async def async_waits_in_task(request):
    await asyncio.create_task(async_wait_here(float(request.GET["s"])))
    return HttpResponse("done")


def crosses_and_waits(request):
    async_to_sync(async_wait_here)(float(request.GET["s"]))
    return HttpResponse("crossed")


def sleeps(request):
    wait_here(float(request.GET["s"]))
    return HttpResponse("slept")


def spins(request):
    """Compute without letting another request run in this thread."""
    until = time.monotonic() + float(request.GET["s"])
    while time.monotonic() < until:
        pass
    return HttpResponse("spun")


def is_open(gate):
    """Return whether the file is there."""
    return os.path.exists(gate)


def be_late(request, sleep):
    """Work for a request that is over by then: once the file `gate` is there, and a moment later."""
    while not is_open(request.GET["gate"]):
        sleep(0.02)
    sleep(0.2)
    otel_canonical.set("late", True)
    query(3)


def leaves_thread(request):
    """Go, while a thread that has this request's context goes on."""
    import contextvars

    token, _ = facts_of(request)
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(be_late, request, time.sleep)).start()
    return HttpResponse(token)


async def leaves_task(request):
    """Go, while a task that has this request's context goes on."""
    token, _ = facts_of(request)

    async def work():
        while not is_open(request.GET["gate"]):  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        otel_canonical.set("late", True)
        await sync_to_async(query)(3)

    tasks.add(asyncio.create_task(work()))
    return HttpResponse(token)


tasks = set()


def leaves_greenlet(request):
    """Go, while a greenlet that has this request's context goes on."""
    import gevent

    token, _ = facts_of(request)
    gevent.spawn(be_late, request, gevent.sleep)
    return HttpResponse(token)


async def cancels_itself(request):
    raise asyncio.CancelledError


async def exits(request):
    raise SystemExit(3)


def _urls():
    from django.urls import path

    names = """plain async_plain stream async_stream raises async_raises long_stream
    async_long_stream async_waits crosses async_blocks async_gathers async_in_thread
    async_waits_in_task crosses_and_waits sleeps spins leaves_thread leaves_task leaves_greenlet
    cancels_itself exits""".split()
    return [path(f"{name}/", globals()[name], name=name) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def _asgi():
    from django.core.asgi import get_asgi_application

    django = get_asgi_application()

    async def with_more(scope, receive, send):
        """Serve what Django doesn't: websockets, lifespan, and errors around Django."""
        if scope["type"] == "websocket":
            await websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        elif scope["path"] == "/outside/raises/":
            raise LookupError("outside")
        elif scope["path"] == "/outside/silent/":
            return
        elif scope["path"] == "/outside/half/":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise LookupError("half")
        elif scope["path"] == "/outside/headless/":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise LookupError("headless")
        else:
            await django(scope, receive, send)

    return with_more


async def websocket(scope, receive, send):
    await receive()
    if scope["path"] == "/refused/":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/failing/":
        raise LookupError("websocket")
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


application = _application()
asgi = _asgi()

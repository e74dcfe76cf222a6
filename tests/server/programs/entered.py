"""A site that notes each request that enters a view, in a file of its own; WSGI and ASGI.

The note is one `write` to a file that all workers append to, under the request's `X-Request-ID`: an
account that needs nothing of what is tested, and that outlives the worker.
"""

from __future__ import annotations

import asyncio
import os
import time

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
ENTERED = os.open(os.environ["ENTERED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)


def note(request):
    os.write(ENTERED, f"{request.headers['X-Request-ID']} {os.getpid()}\n".encode())


def takes(request):
    """Run for a time that the client names."""
    note(request)
    time.sleep(float(request.GET["s"]))
    return HttpResponse("done")


async def awaits(request):
    """Wait as long as the client says."""
    note(request)
    await asyncio.sleep(float(request.GET["s"]))
    return HttpResponse("done")


def streams(request):
    """Send a body in pieces, with pauses."""
    note(request)

    def pieces():
        for _ in range(5):
            time.sleep(float(request.GET["s"]) / 5)
            yield b"piece"

    return StreamingHttpResponse(pieces())


async def streams_async(request):
    """Send a body in pieces, with pauses."""
    note(request)

    async def pieces():
        for _ in range(5):
            await asyncio.sleep(float(request.GET["s"]) / 5)
            yield b"piece"

    return StreamingHttpResponse(pieces())


def reads(request):
    """Read a body, whose client may not send all of it."""
    note(request)
    return HttpResponse(str(len(request.body)))


IS_ASGI = os.environ.get("IS_ASGI") == "1"

urlpatterns = [
    path("takes/", awaits if IS_ASGI else takes),
    path("streams/", streams_async if IS_ASGI else streams),
    path("reads/", reads),
]

application = get_asgi_application() if IS_ASGI else get_wsgi_application()

"""A Django site whose views log, through loggers as apps configure them."""

from __future__ import annotations

import contextvars
import logging
import os
import threading

from django.http import HttpResponse, StreamingHttpResponse
from giving_up import Hold, give_up_on

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "percent": {"format": "percent %(req_id)s %(trace_id)s %(span_id)s %(message)s"},
        "brace": {"format": "brace {req_id} {trace_id} {span_id} {message}", "style": "{"},
    },
    "handlers": {
        "file": {
            "class": "logging.FileHandler",
            "filename": os.environ["SITE_LOG"],
            "formatter": "percent",
        },
        "brace": {
            "class": "logging.FileHandler",
            "filename": os.environ["SITE_LOG"],
            "formatter": "brace",
        },
    },
    # Both what replaces the root's handlers and what never reaches them.
    "root": {"handlers": ["file"], "level": os.environ.get("SITE_LEVEL", "INFO")},
    "loggers": {
        "shop": {"handlers": ["brace"], "level": "DEBUG", "propagate": False},
        "django": {"handlers": ["file"], "propagate": False},
    },
}

logger = logging.getLogger("shop.orders")
plain = logging.getLogger("plain")


class OwnRecord(logging.LogRecord):
    """A record factory of the app's own that does not call the one before it."""


class Extra:
    """What is given as `extra`, held while it is exported."""

    __slots__ = ("hold",)

    def __str__(self):
        return str(self.hold())


async def gives_up(request):
    """Log under a name: what is given up on while it is exported, then while that lasts and after it."""
    name, extra = request.GET["name"], Extra()
    extra.hold = Hold()
    await give_up_on(plain.info, f"{name} first", extra={"held": extra})
    plain.info("%s second", name)
    await extra.hold.let_go()
    plain.info("%s third", name)
    return HttpResponse("gave up")


def says(request):
    """Log once through each logger, under the name that the request gives."""
    name = request.GET["name"]
    plain.info("%s plain", name)
    logger.debug("%s shop", name)
    logging.getLogger().warning("%s root", name)
    return HttpResponse("said")


def says_itself(request):
    """What the app says about itself stays."""
    plain.info("own", extra={"req_id": "mine", "plan": "pro", "items": 3, "request": request})
    return HttpResponse("said")


def own_factory(request):
    logging.setLogRecordFactory(OwnRecord)
    plain.info("of its own kind")
    return HttpResponse("made")


def secret(request):
    plain.warning("login failed with password=hunter2", extra={"token": "hunter2"})
    try:
        raise ValueError("api_key=hunter2 is wrong")
    except ValueError:
        plain.exception("refused")
    return HttpResponse("kept")


def misfit(request):
    plain.warning("paid %s of %s", 5)
    return HttpResponse("said")


def streams(request):
    def body():
        for n in range(3):
            plain.info("streamed %s", n)
            yield "x"

    return StreamingHttpResponse(body())


def background(request):
    """A thread of no request, and one that the request has left behind."""
    answered = threading.Event()
    context = contextvars.copy_context()

    def of_nobody():
        plain.info("of nobody")

    def left_behind():
        answered.wait(0.3)
        plain.info("left behind")

    threading.Thread(target=of_nobody).start()
    threading.Thread(target=context.run, args=(left_behind,)).start()
    return HttpResponse("started")


def fails(request):
    raise RuntimeError("Oh noes!")


def _urls():
    from django.urls import path

    names = "says says_itself own_factory secret misfit streams background fails gives_up".split()
    views = {name: value for name, value in globals().items() if callable(value)}
    return [path(f"{name.replace('_', '-')}/", views[name]) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
logging.getLogger("plain").info("loaded")

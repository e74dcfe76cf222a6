"""A Django site that puts one secret, `hunter2`, in every place that is exported, logged or shown."""

from __future__ import annotations

import logging
import os

from django.http import HttpResponse
from opentelemetry import trace

import otel_canonical

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

logger = logging.getLogger("shop")
TEXT = "('password', 'hunter2') and AccountKey=hunter2; q=token%3Dhunter2 Key (api_key)=(hunter2)"


@otel_canonical.enrich
def fails_to_enrich(request, response):
    if request is not None and "enrich" in request.path:
        raise ValueError(f"postgres://user:hunter2@host \x1b[2J\n[INFO] forged, {TEXT}")


def fail(text):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError(text) from error


def raises(request):
    otel_canonical.set("note", TEXT)
    otel_canonical.set("api_key", "hunter2")
    fail(TEXT)


def child_spans(request):
    tracer = trace.get_tracer("app")
    facts = {
        "url.full": "https://hunter2@host/a?code=hunter2&key=hunter2&ticket=hunter2",
        "db.query.text": "SELECT * FROM users WHERE token = 'hunter2'",
    }
    with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT, attributes=facts):
        pass
    try:
        with tracer.start_as_current_span("inner"):
            fail(TEXT)
    except ValueError:
        pass
    return HttpResponse("called")


def logs(request):
    logger.warning(TEXT, extra={"note": TEXT, "token": "hunter2"})
    try:
        fail(TEXT)
    except ValueError:
        logger.warning("refused", exc_info=True)
    return HttpResponse("logged")


def slow(request):
    tok, card, password, url = "hunter2", "hunter2", "hunter2", "https://x/?code=hunter2"
    with open(os.environ["GO_ON"]) as go_on:
        go_on.read()
    return HttpResponse(f"{len(tok + card + password + url)}")


def ping(request, ping_key):
    return HttpResponse("pong")


def enrich(request):
    return HttpResponse("enriched")


def partial(request):
    @otel_canonical.partial_failure(return_value=None)
    def fails():
        fail(TEXT)

    fails()
    return HttpResponse("survived")


def _urls():
    from django.urls import path

    views = {view.__name__: view for view in (raises, child_spans, logs, slow, enrich, partial)}
    return [
        *[path(f"{name.replace('_', '-')}/", view) for name, view in views.items()],
        path("ping/<ping_key>/", ping),
    ]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()

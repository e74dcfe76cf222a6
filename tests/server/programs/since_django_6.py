"""A site with what Django has since 6.0: background tasks, and a content security policy."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.http import HttpResponse
from django.tasks import task
from django.tasks.backends.immediate import ImmediateBackend
from django.urls import path
from django.utils.csp import CSP

import otel_canonical

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

DIRECTORY = os.environ["SITE_DIRECTORY"]
SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = __name__
MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware"]
SECURE_CSP = {"script-src": [CSP.SELF, CSP.NONCE]}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(DIRECTORY, "default"),
    }
}
TASKS = {
    "default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"},
    "threads": {"BACKEND": f"{__name__}.ThreadsBackend"},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.csp"],
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {"page.html": "<script nonce={{ csp_nonce }}></script>"},
                )
            ],
        },
    }
]


class ThreadsBackend(ImmediateBackend):
    """Runs tasks in threads of this process, in the context of the request that enqueued them."""

    def __init__(self, alias, params):
        super().__init__(alias, params)
        self._threads = ThreadPoolExecutor(2)

    def _execute_task(self, task_result):
        run = super()._execute_task
        self._threads.submit(contextvars.copy_context().run, run, task_result)


def ask_twice():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'a task'")
        cursor.execute("SELECT 'a task'")
    otel_canonical.set("task_ran_in", threading.current_thread().name)


@task
def look_up():
    ask_twice()


@task
def fail():
    raise LookupError("the task's own failure")


@task(backend="threads")
def look_up_later(begin):
    """Wait for a file, so that the response is out before."""
    while not os.path.exists(begin):
        time.sleep(0.01)
    ask_twice()
    os.rename(begin, f"{begin}.done")


def page(request):
    from django.shortcuts import render

    return render(request, "page.html")


async def async_page(request):
    return page(request)


def runs_task(request):
    return HttpResponse(look_up.enqueue().status)


async def awaits_task(request):
    result = await look_up.aenqueue()
    return HttpResponse(result.status)


def commits_task(request):
    with transaction.atomic():
        transaction.on_commit(look_up.enqueue)
    return HttpResponse("committed")


def fails_task(request):
    return HttpResponse(fail.enqueue().status)


def outlived(request):
    look_up_later.enqueue(os.path.join(DIRECTORY, "begin"))
    return HttpResponse("enqueued")


urlpatterns = [
    path("page/", page),
    path("async-page/", async_page),
    path("runs-task/", runs_task),
    path("awaits-task/", awaits_task),
    path("commits-task/", commits_task),
    path("fails-task/", fails_task),
    path("outlived/", outlived),
]
application = get_wsgi_application()
asgi_application = get_asgi_application()

"""A site whose views use their database in every way that the tests ask for, on each driver."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time

import databases_n1
from django.db import transaction
from django.db.backends.signals import connection_created
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

DRIVER = os.environ.get("SITE_DRIVER", "sqlite3")
DIRECTORY = os.environ.get("SITE_DIRECTORY", "/tmp")


def hide(*names):
    """Have Django not find a driver that is installed; an instrumentation has imported it."""
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]


if DRIVER == "psycopg2":
    hide("psycopg")
    sys.modules["psycopg"] = None
if DRIVER == "pymysql":
    hide("MySQLdb")
    importlib.import_module("pymysql").install_as_MySQLdb()

SECRET_KEY = "only for tests"
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
# Tables are made from the models, in a quarter of the time.
MIGRATION_MODULES = {"contenttypes": None, "auth": None}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ.get("SITE_POSTGRES"),
    "NAME": "postgres",
    "USER": "postgres",
}
MYSQL = {
    "ENGINE": "django.db.backends.mysql",
    "HOST": os.environ.get("SITE_MYSQL_HOST"),
    "PORT": os.environ.get("SITE_MYSQL_PORT", ""),
    "NAME": "site",
    "USER": "root",
}
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.path.join(DIRECTORY, "default"),
    "OPTIONS": {"timeout": 20},
}
DEFAULT = {
    "sqlite3": SQLITE,
    "psycopg": POSTGRES,
    "psycopg-pool": {**POSTGRES, "OPTIONS": {"pool": {"min_size": 1, "max_size": 2}}},
    "psycopg2": POSTGRES,
    "mysqlclient": MYSQL,
    "pymysql": MYSQL,
}[DRIVER]
DATABASES = {
    "default": {
        **DEFAULT,
        "ATOMIC_REQUESTS": os.environ.get("SITE_ATOMIC") == "1",
        "CONN_MAX_AGE": None if os.environ.get("SITE_CONNECTIONS") == "kept" else 0,
        "CONN_HEALTH_CHECKS": os.environ.get("SITE_CONNECTIONS") == "kept",
    },
    "other": {**SQLITE, "NAME": os.path.join(DIRECTORY, "other")},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "page.html": "<html>\n{% block body %}{% endblock %}\n</html>",
                        "list.html": "{% extends 'page.html' %}\n{% block body %}\n"
                        "{% for one in permissions %}\n{{ one.content_type.app_label }}\n"
                        "{% endfor %}{% endblock %}",
                        "method.html": "{% for one in things %}\n{{ one.label }}\n{% endfor %}",
                        "include.html": "{% for one in permissions %}"
                        "{% include 'row.html' %}{% endfor %}",
                        "row.html": "<b>\n\n{{ one.content_type.app_label }}</b>",
                    },
                )
            ]
        },
    }
]


def setup_receivers():
    """Run two queries whenever a connection is opened, as sites do to set it up."""

    def receive(connection, **kwargs):
        with connection.cursor() as cursor:
            for _ in range(2):
                cursor.execute("SELECT 'receiver'")
                cursor.fetchall()

    connection_created.connect(receive, weak=False)


def give_sleep(connection, **kwargs):
    """Give SQLite a function that the other databases have."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("sleeps", 1, time.sleep)


connection_created.connect(give_sleep)

if os.environ.get("SITE_RECEIVERS") == "1":
    setup_receivers()


def default():
    from django.db import connection

    return connection


def permissions():
    from django.contrib.auth.models import Permission

    return Permission.objects.order_by("pk")


@transaction.non_atomic_requests
def migrates(request):
    """Make the tables; the connection stays as it was."""
    from django.core.management import call_command

    for alias in DATABASES:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    return HttpResponse("migrated")


def ok(request):
    return HttpResponse("ok")


def three(request):
    """Three queries and four rows."""
    with default().cursor() as cursor:
        cursor.execute("SELECT %s", [1])
        cursor.fetchone()
        cursor.execute("SELECT 2 UNION ALL SELECT 3")
        cursor.fetchall()
        cursor.execute("SELECT 4")
        cursor.fetchone()
    return HttpResponse("three")


def twenty(request):
    """Twenty statements: what a driver's instrumentation would make spans of."""
    from django.db import DatabaseError, connection

    vendor = connection.vendor
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS twenty")
        cursor.execute("CREATE TABLE twenty (n integer, word varchar(20))")
        cursor.execute("INSERT INTO twenty VALUES (%s, %s)", [1, "one"])
        cursor.executemany("INSERT INTO twenty VALUES (%s, %s)", [[2, "two"], [3, "three"]])
        cursor.execute("select n from twenty where word = %s", ["one"])
        cursor.execute("/* a comment */ SELECT count(*) FROM twenty")
        cursor.execute("  SELECT\n  1")
        cursor.execute("SELECT 'a%%' , %s", ["%"])
        cursor.execute("UPDATE twenty SET word = 'zwei' WHERE n = 2")
        cursor.execute("DELETE FROM twenty WHERE n = 3")
        cursor.execute("SELECT n FROM twenty ORDER BY n", None)
        cursor.fetchall()
        for sql in ("SELECT nonsense FROM twenty", "INSERT INTO nowhere VALUES (1)"):
            try:
                with transaction.atomic():
                    cursor.execute(sql)
            except DatabaseError:
                pass
        try:
            with transaction.atomic():
                cursor.execute("CREATE TABLE twenty (n integer)")
        except DatabaseError:
            pass
        with transaction.atomic():
            cursor.execute("SELECT 3")
        cursor.execute("SELECT '%s'" % ("x" * 3000))
    permissions().count()
    list(permissions().iterator(chunk_size=2))
    permissions().filter(pk__in=[1, 2, 3]).exists()
    if vendor == "postgresql" and DRIVER != "psycopg2":
        from psycopg import sql

        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT {}").format(sql.Literal(7)))
    else:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 7")
    return HttpResponse("twenty")


def procedure(request):
    """Call a procedure of the database."""
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("DROP PROCEDURE IF EXISTS answers")
            cursor.execute("CREATE PROCEDURE answers() SELECT 42")
            cursor.callproc("answers")
        else:
            cursor.callproc("version")
        cursor.fetchall()
    return HttpResponse("called")


def fetches(request):
    """Rows in every way that a cursor of Django's gives them."""
    from django.contrib.auth.models import Permission
    from django.db import connection

    sql = "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3"
    found = []
    with connection.cursor() as cursor:
        cursor.execute(sql)
        found += [cursor.fetchone(), cursor.fetchone(), cursor.fetchone()]
        assert cursor.fetchone() is None
        cursor.execute(sql)
        found += [*cursor.fetchmany(2), *cursor.fetchmany(2)]
        cursor.execute(sql)
        found += cursor.fetchall()
        cursor.execute(sql)
        found += list(cursor)
    number = len(list(permissions()))
    number += len(list(permissions().iterator(chunk_size=3)))
    number += len(list(Permission.objects.raw("SELECT * FROM auth_permission")))
    number += len(permissions().values_list("pk"))
    return JsonResponse({"rows": len(found) + number})


def secret_error(request):
    """An error whose message shows a value that the app has sent."""
    from django.db import IntegrityError

    with default().cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS accounts")
        cursor.execute("CREATE TABLE accounts (name varchar(40) UNIQUE)")
        for _ in range(2):
            try:
                cursor.execute("INSERT INTO accounts VALUES (%s)", ["password=hunter2"])
            except IntegrityError:
                return HttpResponse("twice")
    return HttpResponse("never")


def sleeping(seconds):
    """Return a statement that takes so long."""
    vendor = default().vendor
    if vendor == "postgresql":
        return f"SELECT pg_sleep({seconds})"
    if vendor == "mysql":
        return f"SELECT SLEEP({seconds})"
    return f"SELECT sleeps({seconds})"


def slowest(request):
    with default().cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute(sleeping(0.3))  # MARK slowest
        cursor.fetchall()
        cursor.execute(sleeping(0.15))
        cursor.fetchall()
    return HttpResponse("slept")


def slow_sql(table):
    """Return a SELECT from a table that takes 0.2 s, with a literal and a parameter of its own."""
    sleep = sleeping(0.2).removeprefix("SELECT ")
    name = "codename" if table == "auth_permission" else "word"
    # The subquery is evaluated once. SQLite leaves out a column that isn't looked at.
    return (
        f"SELECT {name} FROM {table} WHERE {name} <> 'password=hunter2' AND {name} <> %s "
        f"AND 4711 > (SELECT count(slept) FROM (SELECT {sleep} AS slept) AS sleeper)"
    )


def slow_select(request):
    with default().cursor() as cursor:
        cursor.execute(slow_sql("auth_permission"), ["hunter2"])  # MARK slow_select
        cursor.fetchall()
    if os.environ.get("SITE_BREAKS_AFTER") == "1":
        # For every connection to come the database is gone.
        for alias in ("HOST", "PORT"):
            default().settings_dict[alias] = {"HOST": "127.0.0.1", "PORT": "1"}[alias]
    return HttpResponse("slow")


def slow_other(request):
    """Another slow query than `slow_select`'s."""
    with default().cursor() as cursor:
        cursor.execute(slow_sql("auth_permission") + " ORDER BY id", ["hunter2"])
        cursor.fetchall()
    return HttpResponse("slow")


def slow_write(request):
    sleep = sleeping(0.2).removeprefix("SELECT ")
    with default().cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS written (word varchar(40))")
        cursor.execute("INSERT INTO written VALUES ('kept')")
        cursor.execute(
            f"INSERT INTO written SELECT 'x' FROM (SELECT {sleep} AS slept) AS s WHERE slept IS NOT NULL"
        )
        if default().vendor == "postgresql":
            cursor.execute(f"SELECT {sleep}; DELETE FROM written")
            cursor.execute("SELECT count(*) FROM written")
            assert cursor.fetchone() == (0,)
    return HttpResponse("written")


def slow_in_transaction(request):
    """A query of a table that nobody else sees yet; MySQL commits tables, so there it is temporary."""
    kind = "TEMPORARY TABLE" if default().vendor == "mysql" else "TABLE"
    with default().cursor() as cursor:
        cursor.execute(f"CREATE {kind} uncommitted (word varchar(40))")
        cursor.execute("INSERT INTO uncommitted VALUES ('a')")
        cursor.execute(slow_sql("uncommitted"), ["b"])
        cursor.fetchall()
    transaction.set_rollback(True)
    return HttpResponse("slow")


def atomic(request):
    """Two queries in a transaction, one in a savepoint of it, one that is rolled back."""
    with transaction.atomic():
        permissions().count()
        with transaction.atomic():
            permissions().first()
        try:
            with transaction.atomic():
                permissions().last()
                raise ValueError
        except ValueError:
            pass
    return HttpResponse("committed")


def on_commit(request):
    """A query after the commit is the app's."""
    with transaction.atomic():
        permissions().count()
        transaction.on_commit(lambda: permissions().exists())
    return HttpResponse("committed")


def threads(request):
    """Four queries in threads that carry OpenTelemetry's context alone."""
    from opentelemetry import context as otel_context

    carried = otel_context.get_current()

    def run():
        from django.db import connection

        token = otel_context.attach(carried)
        try:
            for _ in range(2):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    cursor.fetchall()
        finally:
            connection.close()
            otel_context.detach(token)

    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    return HttpResponse("threaded")


def own_connection(request):
    """One query of Django's, and one on a connection that the app opens itself."""
    with default().cursor() as cursor:
        cursor.execute("SELECT 1")
    connection = open_own()
    connection.cursor().execute("SELECT 1 + 1")
    connection.close()
    return HttpResponse("both")


def open_own():
    if DRIVER == "sqlite3":
        import sqlite3

        return sqlite3.connect(":memory:")
    name = "psycopg" if DRIVER == "psycopg-pool" else DRIVER
    if name.startswith("psycopg"):
        driver = importlib.import_module(name)
        return driver.connect(host=POSTGRES["HOST"], user="postgres", dbname="postgres")
    driver = importlib.import_module("MySQLdb")
    return driver.connect(unix_socket=MYSQL["HOST"], user="root")


def streams(request):
    """A query for each part of the body."""

    def body():
        for number in range(3):
            with default().cursor() as cursor:
                cursor.execute("SELECT %s", [number])
                yield str(cursor.fetchone()[0])

    return StreamingHttpResponse(body())


VIEWS = [
    *(secret_error, slow_select, slow_other, slow_write, slow_in_transaction),
    *(migrates, ok, three, twenty, procedure, fetches, slowest, atomic, on_commit, threads),
    *(own_connection, streams),
    *(getattr(databases_n1, name) for name in dir(databases_n1) if name.startswith("n1_")),
]


def get_urls():
    from django.urls import path

    return [path(f"{view.__name__}/", view) for view in VIEWS]


urlpatterns = get_urls()


def get_application():
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    if os.environ.get("SITE_ASGI") == "1":
        return get_asgi_application()
    return get_wsgi_application()


application = get_application()

"""Views of `every_kind` that query: by Django, by its drivers, in transactions, in a streamed body."""

from __future__ import annotations

import gc
import os
import sqlite3
import time

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse


def queries(request):
    """Three queries on one alias, two of the same text, and one on the other; an executemany."""
    from django.db import connections

    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1 WHERE %s = 1", [1])
        cursor.execute("SELECT 1 WHERE %s = 1", [2])
        cursor.execute("SELECT 2")
    with connections["other"].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS t (n integer)")
        cursor.executemany("INSERT INTO t VALUES (%s)", [[1], [2], [3]])
    return HttpResponse("queried")


def failing_query(request):
    from django.db import DatabaseError, connection

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM WHERE nonsense")
    except DatabaseError:
        return HttpResponse("survived")


async def async_queries(request):
    from django.contrib.contenttypes.models import ContentType

    try:
        await ContentType.objects.acount()
    except Exception:
        return HttpResponse("no table")
    return HttpResponse("queried")


def raw_sqlite(request):
    """A query that Django isn't between."""
    connection = sqlite3.connect(":memory:")
    connection.cursor().execute("SELECT 1")
    return HttpResponse("queried")


def migrates(request):
    """Make the tables that the views which use models need."""
    from django.core.management import call_command
    from django.db import connections

    for alias in connections:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    return HttpResponse("migrated")


def two_databases(request):
    """One query of one text on each alias: two runs of one text."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import connections

    for alias in connections:
        ContentType.objects.using(alias).count()
    return HttpResponse("counted")


def iterates(request):
    """One query, however many rows; PostgreSQL reads it with a server-side cursor."""
    from django.contrib.contenttypes.models import ContentType

    rows = len(list(ContentType.objects.iterator(chunk_size=2)))
    return JsonResponse({"rows": rows})


def executes_many(request):
    """Two queries, however many rows the second one is run for."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS many (n integer)")
        cursor.executemany("INSERT INTO many VALUES (%s)", [[n] for n in range(100)])
    return HttpResponse("executed")


def composed_sql(request):
    """The same SQL twice, composed of parts as psycopg has it."""
    from django.db import connection
    from psycopg import sql

    with connection.cursor() as cursor:
        for _ in range(2):
            cursor.execute(sql.SQL("SELECT {}").format(sql.Literal(7)))
    return HttpResponse("composed")


def sql_as_sent(request):
    """What PostgreSQL got, twice the same query; with `stream` in the body."""
    from django.db import connection

    def texts():
        for _ in range(2):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND %s = '%%'",
                    ["%"],
                )
                yield cursor.fetchone()[0] + "\n"

    if "stream" in request.GET:
        return StreamingHttpResponse(texts())
    return HttpResponse("".join(texts()))


def raw_psycopg(request):
    """A query on a connection that isn't Django's."""
    import psycopg

    with psycopg.connect(host=os.environ["SITE_POSTGRES"], user="postgres") as connection:
        connection.cursor().execute("SELECT 1")
    return HttpResponse("queried")


def atomically(request):
    """One query in a transaction and one in a savepoint: two."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import transaction

    with transaction.atomic():
        ContentType.objects.count()
        with transaction.atomic():
            ContentType.objects.first()
    return HttpResponse("committed")


async def async_counts(request):
    from django.contrib.contenttypes.models import ContentType

    await ContentType.objects.acount()
    async for _ in ContentType.objects.all():
        pass
    return HttpResponse("counted")


def collects_garbage(request):
    """Collect what earlier requests left behind, then query without Django."""
    gc.collect()
    return raw_sqlite(request)


def stream(request):
    from django.db import connection

    def body():
        for n in range(3):
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s", [n])
            time.sleep(0.1)
            yield f"{n}\n"

    return StreamingHttpResponse(body())


def own_spans(request):
    """A span of the app's own, a query in it."""
    from django.db import connection
    from opentelemetry import trace

    with trace.get_tracer("app").start_as_current_span("pricing"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("priced")

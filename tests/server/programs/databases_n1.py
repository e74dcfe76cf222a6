"""Views of the site `databases` that run a query again and again, each in another way."""

from __future__ import annotations

import asyncio
import contextvars
import threading

from django.http import HttpResponse, StreamingHttpResponse


def permissions():
    from django.contrib.auth.models import Permission

    return Permission.objects.order_by("pk")


def n1_view(request):
    """The classic: a row's relation in a loop."""
    labels = []
    for one in permissions()[:6]:
        label = one.content_type.app_label  # MARK n1_view
        labels.append(label)
    return HttpResponse(",".join(labels))


def n1_comprehension(request):
    some = permissions()[:6]
    labels = [one.content_type.app_label for one in some]  # MARK n1_comprehension
    return HttpResponse(",".join(labels))


def n1_four(request):
    for one in permissions()[:4]:
        str(one.content_type.app_label)
    return HttpResponse("four")


def n1_template(request):
    from django.shortcuts import render

    return render(request, "list.html", {"permissions": permissions()[:6]})  # MARK n1_template


def n1_include(request):
    from django.shortcuts import render

    return render(request, "include.html", {"permissions": permissions()[:6]})


class Thing:
    """What a template asks for a label."""

    def __init__(self, permission):
        self.permission = permission

    def label(self):
        return self.permission.content_type.app_label  # MARK n1_method


def n1_method(request):
    from django.shortcuts import render

    return render(request, "method.html", {"things": [Thing(one) for one in permissions()[:6]]})


def n1_stream(request):
    def body():
        for one in permissions()[:6]:
            yield one.content_type.app_label  # MARK n1_stream

    return StreamingHttpResponse(body())


def n1_prefetch(request):
    """A prefetch for every row: the same line, lists of other lengths."""
    from django.contrib.auth.models import Permission

    for length in range(1, 8):
        list(Permission.objects.filter(pk__in=list(range(length))))  # MARK n1_prefetch
    return HttpResponse("prefetched")


def n1_literals(request):
    """Values pasted into the text: no two texts are the same."""
    from django.db import connection

    with connection.cursor() as cursor:
        for number in range(6):
            cursor.execute(f"SELECT {number} AS n, 'secret-{number}' AS word")  # MARK n1_literals
    return HttpResponse("pasted")


def n1_aliases(request):
    from django.contrib.contenttypes.models import ContentType

    for _ in range(6):
        ContentType.objects.using("other").count()  # MARK n1_aliases
    return HttpResponse("counted")


def n1_two(request):
    """Two suspects; the one that takes longer is the worse."""
    import databases
    from django.db import connection

    with connection.cursor() as cursor:
        for _ in range(5):
            cursor.execute("SELECT 1")
            cursor.execute(databases.sleeping(0.01))  # MARK n1_two
    return HttpResponse("two")


async def n1_async(request):
    from django.contrib.auth.models import Group

    for number in range(6):
        await Group.objects.filter(pk=number).afirst()  # MARK n1_async
    return HttpResponse("awaited")


async def n1_async_for(request):
    from django.contrib.auth.models import Group

    for number in range(6):
        async for _ in Group.objects.filter(pk=number):  # MARK n1_async_for
            pass
    return HttpResponse("awaited")


async def n1_gather(request):
    from django.contrib.auth.models import Group

    async def look(number):
        return await Group.objects.filter(pk=number).aexists()  # MARK n1_gather

    await asyncio.gather(*[look(number) for number in range(6)])
    return HttpResponse("gathered")


def n1_thread(request):
    """In a thread that has the request's context."""

    def run():
        from django.db import connection

        for one in permissions()[:6]:
            str(one.content_type.app_label)  # MARK n1_thread
        connection.close()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    return HttpResponse("threaded")

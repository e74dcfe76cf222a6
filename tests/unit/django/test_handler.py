"""Facts from Django's request handler: the user, without a query of ours, and exceptions that are answers."""

from __future__ import annotations

from typing import Any

import django
import pytest
from django.http import Http404, HttpResponse
from django.test import Client, override_settings

from tests.support.in_process import Event, View, event_of


@pytest.fixture
def ada(in_process: None) -> Any:
    """A user who is in the database."""
    from django.contrib.auth.models import User

    return User.objects.get_or_create(username="ada")[0]


@pytest.fixture
def client_of_ada(ada: Any) -> Client:
    """A client that ada is signed in with, the session being in the database."""
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"):
        client = Client()
        client.force_login(ada)
    return client


def _with_database_sessions(view: View, client: Client) -> Event:
    return event_of(view, client, SESSION_ENGINE="django.contrib.sessions.backends.db")


def test_user_is_not_looked_up_when_view_does_not(client_of_ada: Client) -> None:
    """A session in the database is left there: no query, no user."""
    event = _with_database_sessions(lambda request: HttpResponse(), client_of_ada)
    assert "user_id" not in event
    assert "db_queries" not in event


def test_user_id_is_shown_when_view_looks_user_up(client_of_ada: Client, ada: Any) -> None:
    """The view's own two queries, for session and user, and none of ours."""

    def view(request: Any) -> HttpResponse:
        return HttpResponse(request.user.username)

    event = _with_database_sessions(view, client_of_ada)
    assert (event["user_id"], event["db_queries"]) == (str(ada.pk), 2)


@pytest.mark.skipif(django.VERSION < (5,), reason="`request.auser` came with Django 5.0")
def test_user_id_is_shown_when_async_view_looks_user_up(client_of_ada: Client, ada: Any) -> None:
    """`request.auser()` is a look-up as good as `request.user`."""

    async def view(request: Any) -> HttpResponse:
        return HttpResponse((await request.auser()).username)

    event = _with_database_sessions(view, client_of_ada)
    assert (event["user_id"], event["db_queries"]) == (str(ada.pk), 2)


def test_user_id_is_of_end_of_request_when_user_signs_in(in_process: None, ada: Any) -> None:
    """A client that signs in during the request is shown as that user."""
    from django.contrib.auth import login

    def view(request: Any) -> HttpResponse:
        assert not request.user.is_authenticated
        login(request, ada)
        return HttpResponse()

    assert _with_database_sessions(view, Client())["user_id"] == str(ada.pk)


def test_no_user_id_when_user_signs_out(client_of_ada: Client) -> None:
    """A user who signs out during the request is not shown."""
    from django.contrib.auth import logout

    def view(request: Any) -> HttpResponse:
        assert request.user.is_authenticated
        logout(request)
        return HttpResponse()

    assert "user_id" not in _with_database_sessions(view, client_of_ada)


def test_no_error_when_view_raises_an_answer(in_process: None) -> None:
    """Http404 and PermissionDenied are answers; the route is there all the same."""
    from django.core.exceptions import PermissionDenied

    def denies(request: Any) -> None:
        raise PermissionDenied

    def misses(request: Any) -> None:
        raise Http404

    for view, status in ((denies, 403), (misses, 404)):
        event = event_of(view)
        assert (event["resp_status"], event["req_route"]) == (status, "view/")
        assert "exc_type" not in event

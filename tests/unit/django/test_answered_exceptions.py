"""Exceptions that somebody turns into a 5xx: the line names the one that caused what the client got."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.http import Http404, HttpResponse, JsonResponse

from tests.support.in_process import event_of

HERE = __name__


class Answering:
    """Middleware of a JSON API, with the status that the test wants."""

    status = 500

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(self, request: Any, exception: Exception) -> JsonResponse:
        """Answer."""
        return JsonResponse({"error": str(exception)}, status=self.status)


class Failing(Answering):
    """Middleware that raises itself, behind the view."""

    def __call__(self, request: Any) -> Any:
        """Raise."""
        self.get_response(request)
        raise LookupError("middleware")


def raises(request: Any) -> HttpResponse:
    """Fail."""
    raise ValueError("view")


def misses(request: Any) -> HttpResponse:
    """Fail to find something."""
    raise Http404


def handler500(request: Any) -> HttpResponse:
    """Fail to say that something has failed."""
    raise OSError("handler500")


@pytest.mark.parametrize(
    ("status", "shown"), [(500, "ValueError"), (503, "ValueError"), (400, None), (200, None)]
)
def test_exception_is_shown_when_middleware_answers_with_a_5xx(
    status: int, shown: str | None, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that it answers with less is its business."""
    monkeypatch.setattr(Answering, "status", status)
    event = event_of(raises, MIDDLEWARE=[f"{HERE}.Answering"])
    assert (event["resp_status"], event.get("exc_type")) == (status, shown)


def test_answer_is_shown_when_middleware_makes_a_5xx_of_it(in_process: None) -> None:
    """A 404 by itself is no failure; this one is."""
    event = event_of(misses, MIDDLEWARE=[f"{HERE}.Answering"])
    assert (event["resp_status"], event["exc_type"]) == (500, "Http404")


def test_last_exception_is_shown_when_it_is_what_the_client_got(in_process: None) -> None:
    """The view's 500 never left."""
    event = event_of(raises, MIDDLEWARE=[f"{HERE}.Failing", f"{HERE}.Answering"])
    assert (event["resp_status"], event["exc_type"]) == (500, "LookupError")


def test_exception_of_rest_framework_is_shown(in_process: None) -> None:
    """`APIException` is a 500; what its handler answers with less is no failure."""
    from rest_framework.exceptions import APIException, NotFound
    from rest_framework.views import APIView

    class Down(APIView):
        authentication_classes: tuple[()] = ()
        permission_classes: tuple[()] = ()
        error: Exception = APIException("down")

        def get(self, request: Any) -> HttpResponse:
            raise self.error

    event = event_of(Down.as_view())
    assert (event["resp_status"], event["exc_type"]) == (500, "APIException")
    assert event["exc_loc"].startswith("tests/unit/django/test_answered_exceptions.py:")
    event = event_of(Down.as_view(error=NotFound()))
    assert (event["resp_status"], event.get("exc_type")) == (404, None)

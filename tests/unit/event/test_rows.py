"""Rows of fields: the same facts as text, as pairs and as attributes."""

from __future__ import annotations

from otel_canonical.event.rows import PlainRow

ROW = PlainRow("sampled", "resp_status", "resp_time")
#: Seconds, with more digits than are shown.
VALUES = ("true", 200, 0.12345678)


def test_plain_row_says_the_same_in_three_ways() -> None:
    """Durations to the microsecond; booleans are texts only where they are passed."""
    assert ROW.as_logfmt(VALUES) == "sampled=true resp_status=200 resp_time=0.123457"
    assert list(ROW.pairs(VALUES)) == [
        ("sampled", True),
        ("resp_status", 200),
        ("resp_time", 0.123457),
    ]
    assert ROW.attributes(VALUES) == {
        "http.response.status_code": 200,
        "canonical.duration": 0.123457,
    }
    assert dict(ROW.pairs(("false", 200, 1.0)))["sampled"] is False
    assert PlainRow("client_gone").attributes(("true",)) == {"canonical.client_gone": True}

"""Rows of fields: the same facts as text, as pairs and as attributes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event import logfmt
from otel_canonical.event.row_text import TEXTS_REMEMBERED, KnownTexts
from otel_canonical.event.rows import (
    DETAILS,
    IDS,
    POOL,
    WRITTEN,
    JoinedRow,
    PlainRow,
    TextRow,
    Written,
    apart,
    seconds,
    seconds_text,
)

ROW = PlainRow("sampled", "resp_status", "resp_time")
#: Nanoseconds, of which microseconds are shown.
VALUES = ("true", 200, 123_456_780)


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
    assert dict(ROW.pairs(("false", 200, 1)))["sampled"] is False
    assert PlainRow("client_gone").attributes(("true",)) == {"canonical.client_gone": True}


@given(st.integers(0, 10**13))
def test_duration_is_written_as_it_is_exported(elapsed_ns: int) -> None:
    """To the nearest microsecond, also of a request that ran for hours."""
    row, values = PlainRow("resp_status", "resp_time"), (200, elapsed_ns)
    (_, exported) = dict(row.pairs(values)).values()
    assert row.as_logfmt(values) == f"resp_status=200 resp_time={exported:.6f}"
    assert round(exported * 1e6) == (elapsed_ns + 500) // 1000
    assert row.attributes(values)["canonical.duration"] == exported


@given(st.integers(0, 10**13) | st.sampled_from([0, 499, 500, 10**9, 10**10, 1_500_000]))
def test_short_duration_is_written_as_a_float_is(elapsed_ns: int) -> None:
    """Without zeros at its end."""
    assert seconds_text(elapsed_ns) == logfmt.as_text(seconds(elapsed_ns))


@pytest.mark.parametrize(
    ("elapsed_ns", "shown"),
    [
        (999_999_499, "0.999999"),
        (999_999_500, "1.000000"),
        (1_000_000_000, "1.000000"),
        (1_000_999_000, "1.000999"),
        (1_001_000_000, "1.001000"),
    ],
)
def test_duration_around_a_second_is_written_right(elapsed_ns: int, shown: str) -> None:
    """Below it another way of writing is taken than from it on."""
    assert PlainRow("resp_time").as_logfmt((elapsed_ns,)) == f"resp_time={shown}"


def test_details_that_are_equal_are_written_as_what_they_are() -> None:
    """To Python `True`, `1` and `1.0` are equal; a line tells them apart."""
    for values in ((True, 1, 1.0), (1.0, True, 1), (1, 1.0, True)):
        written = DETAILS.as_logfmt([("key", value, value) for value in values])
        assert written == " ".join(f"key={logfmt.as_text(value)}" for value in values)


def test_values_of_a_row_are_any_sequence() -> None:
    """Only a row that remembers its texts wants values that can be looked up."""
    assert ROW.as_logfmt([*VALUES]) == ROW.as_logfmt(VALUES)


def test_status_that_is_no_number_is_not_written_without_quotes() -> None:
    """An app may pass any object as its status."""
    assert PlainRow("resp_status").as_logfmt(("200 forged=1",)) == 'resp_status="200 forged=1"'
    written = [PlainRow("resp_status").as_logfmt((status,)) for status in (1, True, 1.0, 1)]
    assert written == [f"resp_status={text}" for text in ("1", "true", "1.0", "1")]


TEXTS = TextRow("req_route", "req_client", "req_user_agent", "req_bytes", "req_queue_time")

#: What a `TextRow` may be given: anything, or nothing.
ANY = st.none() | st.text() | st.integers() | st.floats(0, 4000) | st.booleans()


@given(st.tuples(ANY, ANY, ANY, ANY, ANY))
def test_text_row_writes_what_its_pairs_are(values: tuple[str | float | None, ...]) -> None:
    """Its line is made by generated code; the pairs, encoded one by one, must say the same."""
    assert TEXTS.as_logfmt(values) == logfmt.encode(TEXTS.pairs(values))


@pytest.mark.parametrize("values", [("true", 200), ("true", 200, 2_000_000_000, 1)])
def test_row_with_a_value_too_many_or_too_few_is_refused(values: tuple[object, ...]) -> None:
    """Each would stand under another's key. On a line, and as pairs."""
    with pytest.raises(ValueError, match=r"unpack|argument"):
        ROW.as_logfmt(values)
    with pytest.raises(ValueError, match="argument"):
        list(ROW.pairs(values))
    with pytest.raises(ValueError, match="argument"):
        list(TEXTS.pairs([None] * len(values)))


def test_row_that_remembers_writes_new_values() -> None:
    """Also of values that are equal to remembered ones but for one."""
    for active in (1, 2, 1):
        assert POOL.as_logfmt((4, active, 0, 4, 1)) == (
            f"g_w_count=4 g_w_active={active} g_backlog=0 g_t_count=4 g_t_active=1"
        )


JOINED = JoinedRow(
    PlainRow("resp_status", "resp_time"), TEXTS, PlainRow("resp_cpu_wait"), WRITTEN, IDS
)
NANOSECONDS = st.sampled_from([0, 499, 500, 999_999_499, 999_999_500]) | st.integers(0, 10**13)


@given(
    st.tuples(st.integers(0, 999), NANOSECONDS),
    st.tuples(ANY, ANY, ANY, ANY, ANY),
    NANOSECONDS,
    st.tuples(st.integers(2, 9**9), st.integers(0, 9**9), st.sampled_from(["id1", "f" * 32])),
)
def test_joined_row_says_what_its_rows_say(
    head: tuple[int, int], texts: tuple[str | float | None, ...], waited_ns: int, ids: Any
) -> None:
    """One step instead of several: as a line, as pairs and as attributes."""
    pool = Written.of(POOL, (4, 1, 0, 4, 1))
    values = (*head, *texts, waited_ns, pool, *ids)
    rows = JOINED.parts(values)
    assert [part for _, part in rows] == [head, texts, (waited_ns,), pool.values, ids]
    lines = [row.as_logfmt(part) for row, part in rows]
    assert JOINED.as_logfmt(values) == " ".join([line for line in lines if line])
    assert list(JOINED.pairs(values)) == [pair for row, part in rows for pair in row.pairs(part)]
    attributes = [row.attributes(part).items() for row, part in apart([(JOINED, values)])]
    assert list(JOINED.attributes(values).items()) == [pair for row in attributes for pair in row]


def test_joined_row_with_a_value_too_many_is_refused() -> None:
    """Each would stand under another's key."""
    pool = Written.of(POOL, (4, 1, 0, 4, 1))
    values = (200, 1, *[None] * 5, 0, pool, 1, 2, "id1")
    assert JOINED.as_logfmt(values)
    for wrong in ((*values, 1), values[:-1]):
        with pytest.raises(ValueError, match="unpack"):
            JOINED.as_logfmt(wrong)
        with pytest.raises(ValueError, match="argument"):
            JOINED.pairs(wrong)


def test_texts_of_clients_are_forgotten_in_time() -> None:
    """They choose them; long ones are not remembered at all."""
    known = KnownTexts("req_route", str)
    for number in range(3 * TEXTS_REMEMBERED):
        assert known.add(f"r {number}") == f' req_route="r {number}"'
        assert len(known) <= TEXTS_REMEMBERED
    before = len(known)
    assert known.add("x" * 201) == f" req_route={'x' * 201}"
    assert len(known) == before

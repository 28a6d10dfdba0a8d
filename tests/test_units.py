"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from h2q.core.errors import UsageError
from h2q.core.units import format_bytes, format_count, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("0", 0),
        ("900MB", 900_000_000),
        ("900 MB", 900_000_000),
        ("900m", None),
        ("1.5GiB", 1_610_612_736),
        ("1.5gib", None),
        ("64k", 64_000),
        ("64K", 64_000),
        ("64KiB", 65_536),
        ("2Ti", 2_199_023_255_552),
        (" 12b ", 12),
        ("12ib", None),
        ("", None),
        ("-1", None),
        ("1e9", None),
        ("1,000", None),
        ("NaN", None),
        ("1" * 16, None),
    ],
)
def test_sizes_are_read_or_refused(text: str, count: int | None) -> None:
    if count is not None:
        assert parse_bytes(text) == count
        return
    with pytest.raises(UsageError, match="size"):
        parse_bytes(text)


def test_numbers_are_written_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 5 << 20, 3 << 30, 2 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB", "2.0 TiB",
    ]  # fmt: skip
    assert [format_seconds(s) for s in (0.0123, 3.21, 75, 7200)] == [
        "12.3 ms", "3.2 s", "1 min 15 s", "2 h 0 min",
    ]  # fmt: skip
    assert [format_count(n) for n in (7, 5_770_496, 1.2e9)] == ["7", "5.77 M", "1.2 B"]

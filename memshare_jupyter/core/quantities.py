"""How numbers of things, bytes and seconds are written, in lists and in messages."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Write a number of things.

    >>> count(1, "engine"), count(2000, "engine")
    ('1 engine', '2,000 engines')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_units(count_bytes: float) -> str:
    """Write a number of bytes with a decimal unit.

    >>> in_units(512), in_units(3.2e6), in_units(999_960), in_units(1.64e9)
    ('512 B', '3.2 MB', '1.0 MB', '1.6 GB')
    """
    if count_bytes < 1000:
        return f"{count_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count_bytes /= 1000
        if count_bytes < 999.95:  # what is rounded to 1000.0 has the next unit
            return f"{count_bytes:.1f} {unit}"
    return f"{count_bytes / 1000:.1f} TB"


def age(seconds: float) -> str:
    """Write a time span with one unit.

    >>> age(5), age(300), age(90000)
    ('5 s', '5 min', '25 h')
    """
    for unit, length_s, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{max(0, seconds) / length_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"

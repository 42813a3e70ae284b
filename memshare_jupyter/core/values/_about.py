"""What lists say of a value, in the few bytes that a slot of the ledger has for it."""

from __future__ import annotations

from typing import Final, NamedTuple

_SEPARATOR: Final = "\x1f"


class About(NamedTuple):
    """Kind of a value and, where it has them, dtype, memory order and shape.

    ``shape`` is None for a value that has none; a single number in an array has ``()``.
    ``unshared_bytes`` says how much of it is not shared, but made anew by whoever attaches it.
    """

    kind: str
    dtype: str = ""
    order: str = ""
    shape: tuple[int, ...] | None = None
    unshared_bytes: int = 0

    def pack(self, limit_bytes: int) -> bytes:
        """Return it as at most `limit_bytes`; what can be long, dtype and then shape, is cut."""
        shape = "-" if self.shape is None else ",".join(map(str, self.shape))
        text = _SEPARATOR.join(
            (self.kind, self.dtype, self.order, shape, str(self.unshared_bytes))
        ).encode()
        if len(text) > limit_bytes and len(self.dtype) > 43:
            return self._replace(dtype=f"{self.dtype[:40]}...").pack(limit_bytes)
        if len(text) > limit_bytes:
            return self.kind.encode()[:limit_bytes]
        return text


def unpack(packed: bytes) -> About:
    """Read what `About.pack` wrote; of what was cut or damaged, what can be read."""
    kind, *rest = packed.decode(errors="replace").split(_SEPARATOR)
    try:
        dtype, order, shape, unshared = rest
        numbers = None if shape == "-" else tuple(map(int, shape.split(","))) if shape else ()
        return About(kind, dtype, order, numbers, int(unshared))
    except ValueError:
        return About(kind)

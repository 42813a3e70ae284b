"""What lists show of a value, in the few bytes that a slot of the ledger has for it."""

from __future__ import annotations

from typing import Final, NamedTuple

_SEPARATOR: Final = "\x1f"


class Summary(NamedTuple):
    """Kind of a value and, where it has them, dtype, memory order and shape.

    ``shape`` is None for a value that has none; a single number in an array has ``()``.
    """

    kind: str
    dtype: str = ""
    order: str = ""
    shape: tuple[int, ...] | None = None

    def pack(self, limit_bytes: int) -> bytes:
        """Return it as at most `limit_bytes`; what can be long, dtype and then shape, is cut."""
        shape = "-" if self.shape is None else ",".join(map(str, self.shape))
        text = _SEPARATOR.join((self.kind, self.dtype, self.order, shape)).encode()
        if len(text) > limit_bytes and len(self.dtype) > 43:
            return self._replace(dtype=f"{self.dtype[:40]}...").pack(limit_bytes)
        if len(text) > limit_bytes:
            return self.kind.encode()[:limit_bytes]
        return text


def unpack(packed: bytes) -> Summary:
    """Read what `Summary.pack` wrote; of what was cut or damaged, what can be read."""
    kind, *rest = packed.decode(errors="replace").split(_SEPARATOR)
    try:
        dtype, order, shape = rest
        numbers = None if shape == "-" else tuple(map(int, shape.split(","))) if shape else ()
    except ValueError:
        return Summary(kind)
    return Summary(kind, dtype, order, numbers)

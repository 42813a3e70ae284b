"""Failure: an exception of the function, on its way from an engine to the caller."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from memshare_jupyter.errors import MemApplyError
from memshare_jupyter.worker import _payload as payload

_OURS: Final = __name__.partition(".")[0] + "."
_MOST_LINES: Final = 60
_MOST_CHARACTERS: Final = 2000

_IN_A_LOOP: Final = (
    "; an engine runs in an event loop of its own: use another thread, as in "
    "ThreadPoolExecutor(1).submit(asyncio.run, coroutine).result()"
)
_READ_ONLY: Final = "; items and vars are shared by all engines: work on a copy (v = v.copy())"


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and how a function failed.

    Attributes
    ----------
    items : range or None
        The item, or the batch of items; None before the first.
    engine : int
        Id of the engine.
    function : str
        What failed there.
    error, remote_traceback : str
        What Python prints, cut in the middle if it is long.
    pickled : bytes or None
        The exception, unless it cannot be pickled.
    """

    items: range | None
    engine: int
    function: str
    error: str
    remote_traceback: str
    pickled: bytes | None

    @classmethod
    def of(
        cls,
        error: BaseException,
        items: range | None,
        engine: int,
        function: str,
        own_file: str,
        printed: str = "",
    ) -> Failure:
        """Describe an exception; its traceback begins behind the frames of `own_file`.

        What the item had printed is shown under it.
        """
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == own_file:
            frames = frames.tb_next
        shown = traceback.format_exception(type(error), error, frames)
        lines = "".join(shown).splitlines()
        said = "".join(traceback.format_exception_only(error)).strip()
        if isinstance(error, ValueError) and str(error).endswith("read-only"):
            said += _READ_ONLY
        elif isinstance(error, RuntimeError) and "running event loop" in str(error):
            said += _IN_A_LOOP
        if len(lines) > _MOST_LINES:
            half = _MOST_LINES // 2
            lines[half:-half] = [f"  ... {len(lines) - 2 * half} lines ..."]
        if printed:
            lines += ["The item had printed:", *(f"  {line}" for line in printed.splitlines())]
        text = "\n".join(_shortened(line) for line in lines)
        return cls(items, engine, function, _shortened(said), text, _pickled(error))

    @property
    def note(self) -> str:
        """The traceback, to go with an exception."""
        return f"\non {_engine(self.engine)}:\n{self.remote_traceback}\n"

    def exception(self) -> BaseException | None:
        """Return the exception itself, if it could be sent and can be rebuilt here."""
        if self.pickled is None:
            return None
        try:
            found = payload.load(self.pickled)
        except Exception:  # noqa: BLE001 -- of a module that only the engine has, for example
            return None
        return found if isinstance(found, BaseException) else None

    def as_result(self, label_of: Callable[[int], str | None] = lambda _: None) -> BaseException:
        """Return the exception for the place of the item's result."""
        plain = self.exception()
        if not isinstance(plain, Exception):
            return self.as_error(label_of)
        plain.add_note(self.note)
        return plain

    def as_error(self, label_of: Callable[[int], str | None] = lambda _: None) -> MemApplyError:
        """Return the error that the caller of a memapply gets."""
        first = self.items.start if self.items else None
        label = None if first is None else label_of(first)
        if self.items is None:
            message = f"{_engine(self.engine)} could not begin: {self.error}"
            if "Can't get attribute" in self.error:
                message += "; engines look for it by its name: define it in a module"
        else:
            where = f"{_place(self.items, label)} on {_engine(self.engine)}"
            message = f"{self.function} failed {where}: {self.error}"
        error = MemApplyError(
            message,
            index=first,
            items=self.items,
            label=label,
            engine=self.engine,
            remote_traceback=self.remote_traceback,
        )
        error.add_note(self.note)
        error.__cause__ = self.exception()
        return error


def name_of(fun: Callable[..., Any]) -> str:
    """Return what messages call a function."""
    return str(getattr(fun, "__name__", type(fun).__name__))


def unreadable(
    title: str, index: int, label: str | None, engine: int, error: Exception
) -> MemApplyError:
    """Return the error of an item whose result cannot be rebuilt in this process."""
    items = range(index, index + 1)
    said = "".join(traceback.format_exception_only(error)).strip()
    shown = traceback.format_exception(type(error), error, _behind_ours(error))
    made = MemApplyError(
        f"the result {_place(items, label)} of {title}, made on engine {engine}, cannot be rebuilt "
        f"here: {_shortened(said)}",
        index=index,
        items=items,
        label=label,
        engine=engine,
        remote_traceback="".join(shown),
    )
    made.__cause__ = error
    return made


def _behind_ours(error: Exception) -> TracebackType | None:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        frames = frames.tb_next
    return frames


def killed(title: str, items: range, engines: Sequence[int], label: str | None) -> MemApplyError:
    """Return the error of an item at which one engine after another died."""
    tried = " and ".join(map(str, engines))
    return MemApplyError(
        f"engines {tried} died {_place(items, label)} of {title}: the function crashes or is "
        "killed there, perhaps for lack of memory",
        index=items.start,
        items=items,
        label=label,
        engine=engines[-1],
        remote_traceback="",
    )


def _engine(number: int) -> str:
    return "an engine" if number < 0 else f"engine {number}"


def _place(items: range, label: str | None) -> str:
    named = "" if label in (None, str(items.start)) else f" ({label!r})"
    if len(items) == 1:
        return f"at index {items.start}{named}"
    return f"in the batch of items {items.start}{named} to {items.stop - 1}"


def _pickled(error: BaseException) -> bytes | None:
    try:
        pickled = payload.dumps(error)
        payload.load(pickled)
    except Exception:  # noqa: BLE001 -- an exception class may refuse in any way it likes
        return None
    return pickled


def _shortened(text: Any) -> str:
    text = str(text)
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} ... {text[-half:]}"

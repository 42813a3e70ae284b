"""What the function shows: figures of matplotlib, and what it displays by IPython.

Neither is imported here: what the engine or the function has not loaded shows nothing.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

_MOST: Final = 20
_MOST_BYTES: Final = 8 << 20

Shown = tuple[int, dict[str, Any], dict[str, Any]]
"""Item, and data and metadata of a display message, by type."""


class Displays:
    """Collects what is shown in a call.

    Parameters
    ----------
    shown : list
        Where it goes.
    item : callable
        Says at which item the worker is.
    """

    def __init__(self, shown: list[Shown], item: Callable[[], int]) -> None:
        self._shown = shown
        self._item = item
        self._room = _MOST_BYTES
        self._others = {*_figures()}

    def look(self) -> None:
        """Take the figures that were left open since the last look, and close them."""
        if "matplotlib.pyplot" not in sys.modules:
            return
        plt: Any = sys.modules["matplotlib.pyplot"]
        for number in [number for number in _figures() if number not in self._others]:
            with contextlib.suppress(Exception), io.BytesIO() as file:  # the function's own
                figure = plt.figure(number)
                figure.savefig(file, format="png", bbox_inches="tight")
                self._keep({"image/png": file.getvalue(), "text/plain": repr(figure)}, {})
            plt.close(number)

    def hear(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Keep a message of the shell's publisher: a hook, as ipykernel calls it."""
        if message.get("header", {}).get("msg_type") != "display_data":
            return message
        self._keep(message["content"]["data"], message["content"].get("metadata", {}))
        return None

    def _keep(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        self._room -= sum(len(part) for part in data.values() if isinstance(part, str | bytes))
        if self._room >= 0 and len(self._shown) < _MOST:
            self._shown.append((self._item(), data, metadata))


@contextlib.contextmanager
def displaying(displays: Displays) -> Iterator[None]:
    """Have it collect what is displayed until the end of the block, and what is left open then."""
    module: Any = sys.modules.get("IPython")
    shell = module.get_ipython() if hasattr(module, "get_ipython") else None
    publisher: Any = getattr(shell, "display_pub", None)
    hooked = hasattr(publisher, "register_hook")  # that of a kernel
    if hooked:
        publisher.register_hook(displays.hear)
    try:
        yield
        displays.look()
    finally:
        if hooked:
            publisher.unregister_hook(displays.hear)


def _figures() -> list[int]:
    plt: Any = sys.modules.get("matplotlib.pyplot")
    return list(plt.get_fignums()) if hasattr(plt, "get_fignums") else []

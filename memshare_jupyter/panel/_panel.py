"""The live panel: what is shared, who holds it, what it costs, and how far the runs are.

A page that shows the panel says hello and is told everything, then what changes. What is said is
made by `_feed` and sent by `_publisher`; the page itself is static/panel.js and the scripts beside
it.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import uuid
from typing import Any, Final

import anywidget
import traitlets
from IPython.display import display, update_display
from ipywidgets import Layout  # type: ignore[import-untyped]

from memshare_jupyter.core.api import snapshot
from memshare_jupyter.core.names import check_namespace
from memshare_jupyter.core.registry import PageInfo
from memshare_jupyter.display import twin
from memshare_jupyter.panel import _actions as actions
from memshare_jupyter.panel._feed import Feed, Message
from memshare_jupyter.panel._opened import opened
from memshare_jupyter.panel._publisher import Publisher
from memshare_jupyter.panel._script import STATIC, joined

_TWIN_S: Final = 5.0
"""The stored table is renewed at most this often: each time marks the notebook as changed."""
_WITHOUT_A_KERNEL: Final = "The live panel needs its kernel; the table is what it showed last."


class Panel(anywidget.AnyWidget):
    """A live view of shared memory for a notebook.

    It shows every page with its holders, the memory of the machine, and the progress of
    ``memapply``, also while a cell runs; it releases and detaches pages and cancels runs. Let it be
    a cell's last expression, in as many outputs as you like. A table of the same pages is stored
    in the notebook, for when there is no kernel.

    Parameters
    ----------
    namespace : str, optional
        Show only this namespace; by default all.

    Raises
    ------
    InvalidNameError
        `namespace` cannot be one.

    Examples
    --------
    >>> from memshare_jupyter import Panel
    >>> panel = Panel("rna")
    >>> panel.close()
    """

    _esm = joined()
    _css = STATIC / "panel.css"
    _twin = traitlets.Unicode(help="The class of the stored table, to hide it.").tag(sync=True)

    def __init__(self, namespace: str | None = None) -> None:
        self._opening = threading.RLock()
        self.namespace = None if namespace is None else check_namespace(namespace)
        super().__init__(_twin=f"memshare-twin-{uuid.uuid4().hex}")
        self._feed = Feed(self.namespace)
        self._publisher = Publisher(self._feed, self._tell, self._renew_twin, self._let_go)
        self._present: set[str] = set()  # who was heard of since the last roll call
        self._closed = False
        self._stored: list[PageInfo] | None = None
        self._renewed_for: Any = None
        self._renew_at = 0.0
        self._be_heard()
        self.on_msg(Panel._hear)
        opened.add(self)

    def _be_heard(self) -> None:
        # ipykernel handles what a page says on the shell that last published on its comm. For us
        # that is the one that runs the cells, and a click would wait for the cell to end.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda _data, default: default

    def _ipython_display_(self) -> None:
        if self._closed:
            display({"text/plain": "this panel was closed; make another: Panel()"}, raw=True)
            return
        with self._opening:  # the publisher's thread may be about to let go of it
            if self.comm is None:  # let go, when nobody showed it
                self.__dict__.pop("_repr_mimebundle_")
                self.layout = Layout()
                self.open()
                self._be_heard()
            bundle = self._repr_mimebundle_()
        assert bundle is not None  # noqa: S101 -- it has a view
        data, metadata = bundle
        self._publisher.start()
        # An output of its own: without a kernel, notebooks show nothing of a widget's output. All
        # outputs of the panel have the same one, which one message renews.
        now = snapshot().pages
        self._stored = [p for p in now if self.namespace in (None, p.namespace)]
        table = twin(self._stored, self.namespace, self._twin)
        display(table, raw=True, display_id=self._twin)
        display({**data, "text/plain": _WITHOUT_A_KERNEL}, metadata=metadata, raw=True)

    def close(self) -> None:
        """End the panel: its thread, and its views in every page."""
        if not hasattr(self, "_publisher"):  # it could not be made
            return
        self._publisher.stop()
        self._closed = True
        self._close_comms()

    def _let_go(self) -> None:
        """Keep nothing in the kernel and in pages for a panel that nobody shows, if one is shown.

        Whoever runs a cell again makes another panel; the last one stays, for one who undoes that
        they deleted its cell. Called on the publisher's thread.
        """
        if any(other._publisher.running for other in list(opened)):
            self._close_comms()

    def _close_comms(self) -> None:
        with self._opening:
            self.layout.close()
            super().close()

    def _tell(self, message: Message) -> None:
        if message["type"] == "who":
            for absent in self._publisher.heard_at_once.keys() - self._present:
                self._forget(absent)
            self._present.clear()
        with contextlib.suppress(Exception):  # the kernel closes its sockets before it ends
            self.send(message)

    def _hear(self, message: Message, _buffers: Any) -> None:
        """Hear what a page says, on the thread that the kernel has for it."""
        kind, who = message["type"], message["who"]
        here = threading.current_thread()  # a subshell's, unless this page waits for cells
        new = who not in self._publisher.heard_at_once
        self._publisher.heard_at_once[who] = here is not threading.main_thread()
        self._present.add(who)
        if "opened" in message:
            self._feed.opened[who] = frozenset(message["opened"])
        if kind == "hello":
            self._publisher.ask()
            if new:  # perhaps it is one that was reloaded, which does not say that it leaves
                self._publisher.answer({"type": "who"})
        elif kind == "here":
            self._publisher.start()
        elif kind == "leave":
            self._forget(who)
            self._publisher.left()
        elif kind == "do":
            done = actions.perform(message)
            self._publisher.answer({"type": "done", "who": who, "id": message["id"], **done})

    def _forget(self, who: str) -> None:
        """Keep nothing for a page that shows the panel no more."""
        self._feed.opened.pop(who, None)
        self._publisher.heard_at_once.pop(who, None)

    def _renew_twin(self) -> None:
        """Store the pages of now in the notebook."""
        now = time.monotonic()
        if now < self._renew_at or self._feed.pages is self._renewed_for:
            return
        self._renew_at, self._renewed_for = now + _TWIN_S, self._feed.pages
        pages = list(self._feed.pages.values())
        if self._stored is None or pages == self._stored:
            return
        self._stored = pages
        table = twin(pages, self.namespace, self._twin)
        with contextlib.suppress(Exception):  # as in _tell
            update_display(table, raw=True, display_id=self._twin)


@atexit.register
def _stop_all() -> None:
    # Before the registry ends, which was there first: a later look would begin a new one.
    for panel in list(opened):
        panel._publisher.stop()

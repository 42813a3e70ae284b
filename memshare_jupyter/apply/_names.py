"""What a name means: the one place that says so, for the functions and for the magics.

A name is looked up once. What was found, a `PageName` or a value, is what `memapply` goes on with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memshare_jupyter.core.api import retrieve_metadata, snapshot
from memshare_jupyter.core.names import PageName, parse, several
from memshare_jupyter.engines import page_of


class Names:
    """Names as the functions understand them: all are pages'.

    Parameters
    ----------
    namespace : str or None
        Where a page is whose namespace is left out.
    """

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace

    def page(self, text: str) -> PageName:
        """Return the page of this name."""
        return parse(text, self.namespace)

    def items(self, X: Any) -> Any:
        """Return what to apply a function to: a `PageName`, or the value itself."""
        return self.page(X) if isinstance(X, str) else X

    def variables(
        self, given: Mapping[str, Any] | Sequence[str] | None, namespace: str
    ) -> dict[str, Any]:
        """Return further arguments of a function by name, each a `PageName` or a value.

        Those given by their names alone are pages of a namespace.
        """
        if isinstance(given, Mapping):
            return dict(given)
        return {name: PageName(namespace, name) for name in names_given(given)}


def names_given(variables: Sequence[str] | None) -> list[str]:
    """Return the names that stand for further arguments; refuse values without names."""
    names = [] if variables is None else several(variables)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                "vars must be a dict, {name: value}, or names of registered variables, not a "
                f"{type(variables).__name__} with a {type(name).__name__}"
            )
    return names


class NotebookNames(Names):
    """Names as they are typed in a notebook, where they may be its variables', too.

    A page of the namespace comes first if there is one, then a variable, then whatever page the
    text names in full.

    Parameters
    ----------
    namespace : str or None
        Where a page is whose namespace is left out.
    known : mapping of str to object
        The variables of the notebook.
    value_of : callable
        Returns what a name of the notebook stands for, which may be an attribute of a variable,
        or raises.
    """

    def __init__(
        self,
        namespace: str | None,
        known: Mapping[str, Any],
        value_of: Callable[[str], Any],
    ) -> None:
        super().__init__(namespace)
        self._known = known
        self._value_of = value_of

    def page(self, text: str) -> PageName:
        """Return the page of this name, or the one that a variable of this name is a view of."""
        if "." in text:
            return parse(text)
        if (page := self._live(text)) is not None:
            return page
        if (page := page_of(text, self._known.get(text))) is not None:
            return page
        return PageName(self.namespace, text) if self.namespace else parse(text)

    def items(self, X: str) -> Any:
        """Return what to apply a function to: a `PageName`, or the value of a variable.

        Raises
        ------
        InvalidNameError
            It is no variable, and cannot be a page.
        """
        if (page := self._live(X)) is not None:
            return page
        return self._known[X] if X in self._known else parse(X)

    def variables(
        self, given: Mapping[str, Any] | Sequence[str] | None, namespace: str | None
    ) -> dict[str, Any]:
        """Return further arguments of a function by name, each a `PageName` or a value.

        A page of a namespace, by default this one's, comes before a variable of the notebook.

        Raises
        ------
        PageNotFoundError
            There is neither.
        """
        space = namespace or self.namespace
        shared = {page.variable for page in live_pages() if page.namespace == space}
        found: dict[str, Any] = {}
        for name in given or ():
            if space and name in shared:
                found[name] = PageName(space, name)
            elif space and name not in self._known:
                retrieve_metadata(space, name)  # whose error says what there is
            else:
                found[name] = self._value_of(name)
        return found

    def _live(self, variable: str) -> PageName | None:
        """Return the page of a variable in the namespace, if there is one."""
        page = PageName(self.namespace or "", variable)
        return page if self.namespace and page in live_pages() else None


def live_pages() -> list[PageName]:
    """Return the pages that can be attached by name, of every process."""
    return [PageName(p.namespace, p.variable) for p in snapshot().pages if p.state != "draining"]

"""What the words after a magic stand for in the notebook: variables, functions, pages."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError

from memshare_jupyter.apply import NotebookNames, live_pages
from memshare_jupyter.core.names import PageName, parse
from memshare_jupyter.display import near
from memshare_jupyter.errors import (
    InvalidNameError,
    MemApplyError,
    MemshareError,
    PageNotFoundError,
)

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_MOST_NAMES: Final = 8


class Notebook:
    """Looks names up; nothing is ever evaluated.

    Parameters
    ----------
    shell : InteractiveShell
        Whose variables they are.
    namespace : callable
        Says in which namespace a page is whose namespace is left out; "" for none.
    """

    def __init__(self, shell: InteractiveShell, namespace: Callable[[], str]) -> None:
        self._shell = shell
        self._namespace = namespace

    @property
    def variables(self) -> dict[str, Any]:
        """All of them, to be changed too."""
        variables: dict[str, Any] = self._shell.user_ns
        return variables

    def names(self) -> list[str]:
        """Return the variables that the user made."""
        hidden = self._shell.user_ns_hidden
        return [n for n in self.variables if not n.startswith("_") and n not in hidden]

    def variable(self, name: str) -> Any:
        """Return the value of a variable."""
        if name not in self.variables:
            raise UsageError(
                f"no variable {name!r} in this notebook"
                + (near(name, self.names()) or "; assign it first")
            )
        return self.variables[name]

    def value(self, name: str) -> Any:
        """Return the value of a variable, or of an attribute of one, as ``np.std``."""
        first, *attributes = name.split(".")
        found = self.variable(first)
        for attribute in attributes:
            if not hasattr(found, attribute):
                raise UsageError(f"{name}: no {attribute!r} there{near(attribute, dir(found))}")
            found = getattr(found, attribute)
        return found

    def function(self, name: str) -> Callable[..., Any]:
        """Return a function of the notebook."""
        builtin = name not in self.variables and hasattr(builtins, name)
        found = getattr(builtins, name) if builtin else self.value(name)
        if not callable(found):
            raise UsageError(f"{name} is no function, but a {type(found).__name__}")
        return found  # type: ignore[no-any-return]

    def page(self, text: str) -> PageName:
        """Read the name of a page."""
        try:
            return self._lookup.page(text)
        except InvalidNameError as error:
            raise UsageError(f"{error}{_meant(text)}") from None

    def pages(self, texts: Iterable[str]) -> list[PageName]:
        """Read the names of pages, each once."""
        return list(dict.fromkeys(self.page(text) for text in texts))

    def items(self, text: str) -> Any:
        """Return what to apply a function to: the name of a page, or the value of a variable."""
        try:
            return self._lookup.items(text)
        except InvalidNameError:
            raise UsageError(
                f"no variable {text!r} in this notebook; a page is written namespace.variable"
                + near(text, self.names())
            ) from None

    def arguments(self, items: Any, names: list[str]) -> dict[str, Any]:
        """Find further arguments of a function; return what `memapply` takes for them.

        A page of the namespace of the items comes before a variable of the notebook.
        """
        lookup = self._lookup
        pages = {name: page for name in names if (page := self._page_of_var(name)) is not None}
        others = [name for name in names if name not in pages]
        found = {page.variable: page for page in pages.values()}
        found |= lookup.variables(others, items.namespace if isinstance(items, PageName) else None)
        shared = [one for one in found.values() if isinstance(one, PageName)]
        # What is shared for the call goes where its other pages are.
        where = {"namespace": shared[0].namespace} if names and len(shared) == len(names) else {}
        return {"vars": found, **where}

    def parameter(self, name: str) -> str:
        """Return what a function calls the argument that a word of ``--vars`` names."""
        page = self._page_of_var(name)
        return name if page is None else page.variable

    def _page_of_var(self, name: str) -> PageName | None:
        """Return the page that a word of ``--vars`` names in full; None for any other word."""
        if "," in name and name not in map(str, live_pages()):
            raise UsageError(f"names stand with blanks between them: {name.replace(',', ' ')}")
        if "." not in name or name.partition(".")[0] in self.variables:
            return None
        return self._lookup.page(name)

    @property
    def _lookup(self) -> NotebookNames:
        return NotebookNames(self._namespace() or None, self.variables, self.value)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turn errors that the user can mend in the line typed into one line without a traceback."""
    try:
        yield
    except MemApplyError:
        raise
    except PageNotFoundError as error:
        found, _, remedy = str(error).rpartition("; ")
        name = error.facts.get("name", "")
        hint = _near_page(parse(name)) if name else ""
        if "{" in name or "$" in name:
            hint = (
                "; {name} and $name mean nothing in this line: in a loop, call the function, as in "
                "memapply(f'rna.{name}', 'cols', fun)"
            )
        raise UsageError(found + (hint or f"; {remedy}")) from error
    except MemshareError as error:
        raise UsageError(str(error)) from error


def _meant(text: str) -> str:
    """Return what to write instead of a text that is no page, if that can be told."""
    pages = live_pages()
    there = [page.variable for page in pages if page.namespace == text]
    if there:
        return f"; {text} is a namespace: it has {', '.join(there[:_MOST_NAMES])}"
    alike = [str(page) for page in pages if page.variable == text]
    return f"; did you mean {' or '.join(alike[:_MOST_NAMES])}?" if alike else ""


def _near_page(page: PageName) -> str:
    """Return ``; did you mean ...?`` if a namespace, or a variable of this one, is alike."""
    pages = live_pages()
    namespaces = {p.namespace for p in pages}
    if page.namespace not in namespaces:
        return near(page.namespace, namespaces)
    return near(page.variable, [p.variable for p in pages if p.namespace == page.namespace])

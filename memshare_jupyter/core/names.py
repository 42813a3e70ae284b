"""Valid namespaces and variables, and ``namespace.variable`` in both directions."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from memshare_jupyter.errors import InvalidNameError

NAME_BYTES: Final = 128
"""Longest namespace or variable, in bytes of UTF-8: both must fit one slot of the ledger."""

_DIGITS: Final = 20
"""Numbers of so many digits are compared as numbers."""
_NUMBER: Final = re.compile("[0-9]+")

_FORBIDDEN: Final = {"/": "a slash", "`": "a backtick"}


class PageName(NamedTuple):
    """The name of a page: a namespace and a variable in it.

    Its text is ``namespace.variable``. Namespaces may contain dots; a variable that does is
    written in backticks, so that every text means one name::

        >>> str(PageName("study.v2", "X")), str(PageName("study", "v2.X"))
        ('study.v2.X', 'study.`v2.X`')
    """

    namespace: str
    variable: str

    def __str__(self) -> str:
        quote = "`" if "." in self.variable else ""
        return f"{self.namespace}.{quote}{self.variable}{quote}"


def page_name(namespace: object, variable: object) -> PageName:
    """Check a namespace and a variable.

    Raises
    ------
    InvalidNameError
        Either is not a string, is empty, is longer than 128 bytes, starts with a dot, or
        contains a slash, a backtick or an unprintable character.
    """
    if type(namespace) is str and type(variable) is str:
        return _checked(namespace, variable)
    return PageName(check_namespace(namespace), _check("variable", variable))


@functools.lru_cache(maxsize=4096)
def _checked(namespace: str, variable: str) -> PageName:
    return PageName(check_namespace(namespace), _check("variable", variable))


@functools.lru_cache(maxsize=2**15)
def in_order(name: str) -> str:
    """Return what a name is ordered by wherever names are listed: numbers in it are numbers.

    The panel's page orders in the same way (static/words.js).

    >>> sorted(["v13", "v2", "v1"], key=in_order)
    ['v1', 'v2', 'v13']
    """
    return _NUMBER.sub(_padded, name)


def _padded(number: re.Match[str]) -> str:
    return number[0].zfill(_DIGITS)


def several(names: str | Iterable[str]) -> list[str]:
    """Return names of which one may be given alone."""
    return [names] if isinstance(names, str) else list(names)


def check_namespace(namespace: object) -> str:
    """Return `namespace` if it can be one; raise `InvalidNameError` otherwise."""
    return _check("namespace", namespace)


def parse(text: str, namespace: str | None = None) -> PageName:
    """Read ``namespace.variable``; the last dot outside backticks separates the two.

    If a `namespace` is given, a text that does not begin with it is a variable in it.

    Raises
    ------
    InvalidNameError
        The text has no such dot, or a part cannot be a name.
    """
    if namespace is not None and not text.startswith(f"{namespace}."):
        return page_name(namespace, text)
    if text.endswith("`") and ".`" in text:
        before, _, variable = text[:-1].partition(".`")
    else:
        before, dot, variable = text.rpartition(".")
        if not dot:
            raise InvalidNameError(
                f"{text!r} is not a page; write namespace.variable, as in rna.X", name=text
            )
    return page_name(before, variable)


def _check(what: str, name: object) -> str:
    if not isinstance(name, str):
        fault = f"is a {type(name).__name__}, not a string"
    elif not name:
        fault = "is empty"
    elif len(name.encode(errors="surrogatepass")) > NAME_BYTES:
        size_bytes = len(name.encode(errors="surrogatepass"))
        fault = f"has {size_bytes} bytes, more than the {NAME_BYTES} a name may have"
    elif name.startswith("."):
        fault = "starts with a dot"
    elif bad := next((c for c in name if c in _FORBIDDEN), None):
        fault = f"contains {_FORBIDDEN[bad]}"
    elif not name.isprintable():
        bad = next(c for c in name if not c.isprintable())
        fault = f"contains the unprintable character {bad!r}"
    else:
        return name
    shown = repr(name) if len(repr(name)) <= 60 else f"{repr(name)[:57]}..."
    raise InvalidNameError(f"{shown} cannot be a {what}: it {fault}; choose another", name=name)

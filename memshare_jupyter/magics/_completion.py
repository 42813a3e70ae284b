"""Tab completion after the magics: subcommands, options, live pages, names of the notebook."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from IPython.core.completer import SimpleCompletion, context_matcher

from memshare_jupyter.apply import FORMS, live_pages
from memshare_jupyter.core.api import page_list, snapshot
from memshare_jupyter.core.views import view_list
from memshare_jupyter.engines.local import LocalCluster
from memshare_jupyter.magics import _grammar as grammar
from memshare_jupyter.magics._notebook import Notebook

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.magic_arguments import MagicArgumentParser

_LINE: Final = re.compile(r"^(?:\s*%{0,2}|.*?=\s*%)(memshare|memapply|memlapply)\s+(.*)$")
"""A magic and what follows it, up to the cursor; with automagic it may lack its sign."""


class Completer:
    """Proposes what may come next.

    Parameters
    ----------
    notebook : Notebook
        Whose variables and functions there are.
    """

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook

        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            found = _LINE.match(context.text_until_cursor)
            fragment, proposals = self.propose(*found.groups()) if found else ("", [])
            return {
                "completions": [SimpleCompletion(text, type="magic") for text in proposals],
                "matched_fragment": fragment,
                "suppress": True,
                "ordered": True,
            }

        self.matcher = context_matcher(identifier="memshare")(matcher)

    def propose(self, magic: str, text: str) -> tuple[str, list[str]]:
        """Return the word before the cursor, and what it may become."""
        words = text.split()
        fragment = "" if not words or text[-1].isspace() else words.pop()
        if magic == "memshare":
            if not words:
                return _beginning(fragment, [*grammar.commands(), "--help"])
            command, *words = words
            parser = grammar.commands().get(command)
        else:
            command, parser = magic, grammar.apply_parser(magic)
        if parser is None:
            return fragment, []
        if fragment.startswith("-"):
            return _beginning(fragment, _options(parser))
        action = _awaited(parser, words)
        if action is None:
            return fragment, []
        return self._values(command, action, words, fragment)

    def _values(
        self, command: str, action: argparse.Action, words: list[str], fragment: str
    ) -> tuple[str, list[str]]:
        if action.choices is not None:
            return _beginning(fragment, map(str, action.choices))
        propose: dict[str, Callable[[], Iterable[str]]] = {
            "namespace": lambda: dict.fromkeys(page.namespace for page in snapshot().pages),
            "names": self._data,
            "pages": lambda: self._pages(command),
            "X": lambda: [*map(str, live_pages()), *self._data()],
            "y": lambda: [*map(str, live_pages()), *self._data()],
            "fn": lambda: self._functions(fragment),
            "vars": lambda: self._arguments(words),
            "engines": lambda: ["all"],
            "targets": lambda: ["all"],
            "cluster": self._clusters,
            "action": lambda: ["start", "status", "stop", *self._clusters()],
            "out": lambda: [*FORMS],
            "dtype": lambda: ["float32", "float64", "int32", "int64"],
            "o": self._data,
        }
        return _beginning(fragment, propose.get(action.dest, list)())

    def _pages(self, command: str) -> list[str]:
        if command == "release":
            return page_list()
        if command == "adopt":
            return [page.name for page in snapshot().pages if page.state == "orphaned"]
        if command == "detach" and view_list():
            return view_list()
        return list(map(str, live_pages()))

    def _data(self) -> list[str]:
        # Whether a value can be shared in fact takes too long to find out for all of them.
        variables = self._notebook.variables
        others = (name for name in self._notebook.names() if not callable(variables[name]))
        return [name for name in others if not _is_module(variables[name])]

    def _functions(self, fragment: str) -> list[str]:
        owner, dot, _ = fragment.rpartition(".")
        if not dot:
            names = self._notebook.names()
            variables = self._notebook.variables
            # A module is proposed for what it has, as np for np.std.
            return [n for n in names if callable(variables[n]) or _is_module(variables[n])]
        value = self._notebook.variables.get(owner)
        public = (name for name in dir(value) if not name.startswith("_"))
        # Statically, for a property may do anything.
        has = {name: inspect.getattr_static(value, name, None) for name in public}
        return [f"{owner}.{name}" for name, found in has.items() if callable(found)]

    def _arguments(self, words: list[str]) -> list[str]:
        spaces = {page.namespace for page in live_pages() if words and str(page) == words[0]}
        here = [page.variable for page in live_pages() if page.namespace in spaces]
        return [*here, *self._data()]

    def _clusters(self) -> list[str]:
        variables = self._notebook.variables
        return [name for name in self._notebook.names() if _is_cluster(variables[name])]


def _beginning(fragment: str, texts: Iterable[str]) -> tuple[str, list[str]]:
    return fragment, [text for text in dict.fromkeys(texts) if text.startswith(fragment)]


def _options(parser: MagicArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _awaited(parser: MagicArgumentParser, words: list[str]) -> argparse.Action | None:
    """Return the option or argument that the next word belongs to."""
    positional = [action for action in parser._actions if not action.option_strings]
    for i in range(len(words) - 1, -1, -1):
        if words[i].startswith("-"):
            option = parser._option_string_actions.get(words[i])
            given = len(words) - 1 - i
            if option is not None and _takes(option) > given:
                return option
            break
    taken = _positionals(parser, words)
    if taken < len(positional):
        return positional[taken]
    return positional[-1] if positional and positional[-1].nargs in ("*", "+") else None


def _positionals(parser: MagicArgumentParser, words: list[str]) -> int:
    """Count the words that belong to no option."""
    count, expected = 0, 0
    for word in words:
        if word.startswith("-"):
            option = parser._option_string_actions.get(word)
            expected = _takes(option) if option is not None else 0
        elif expected:
            expected -= 1
        else:
            count += 1
    return count


def _takes(option: argparse.Action) -> int:
    """Return how many words an option may take."""
    if option.nargs in ("+", "*"):
        return 1000
    return 1 if option.nargs in (None, "?") else 0


def _is_module(value: Any) -> bool:
    return isinstance(value, ModuleType)


def _is_cluster(value: Any) -> bool:
    kind = type(value)
    ours = isinstance(value, LocalCluster)
    return ours or (kind.__module__.startswith("ipyparallel.") and not isinstance(value, type))

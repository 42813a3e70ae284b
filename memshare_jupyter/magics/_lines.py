"""How a line is read, whatever its magic: words, a parser, and what is said if they do not fit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser
from IPython.utils.process import arg_split  # type: ignore[attr-defined]  # it does, for each OS

from memshare_jupyter.display import near

_QUOTES: Final = ("'", '"')


class HelpAsked(Exception):  # noqa: N818 -- what was asked is no error
    """The line asks for help; the argument is the text."""


class _Help(argparse.Action):
    """Tells what there is, and does nothing else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise HelpAsked(parser.format_help())


def split(line: str) -> list[str]:
    """Divide a line into words; quotes hold blanks together, and ``# ...`` at the end goes.

    >>> split("list 'my study'  # only this one")
    ['list', 'my study']
    """
    try:
        words = arg_split(line)
    except ValueError as error:
        raise UsageError(f"a quote is not closed: {line}") from error
    comment = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
    return [word[1:-1] if word[0] in _QUOTES else word for word in words[:comment]]


def parse(parser: MagicArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Read the words after a magic.

    Raises
    ------
    HelpAsked
        With ``--help``.
    UsageError
        The words do not fit; the message says what does.
    """
    arguments, unknown = parser.parse_known_args(list(words))
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        hint = near(unknown[0], known)
        if "--fn" in known and not unknown[0].startswith("-"):
            hint = f"; the function is named by --fn {unknown[0]}"
        raise UsageError(
            f"{parser.prog} does not know {unknown[0]!r}{hint}; "
            f"{parser.prog} --help tells what there is"
        )
    return arguments


def parser_of(prog: str, summary: str, examples: str, more: str = "") -> MagicArgumentParser:
    """Return a parser; its help has a summary, which it also keeps, more about it, and examples."""
    text = f"{summary[0].upper()}{summary[1:]}."
    parser = _Parser(
        prog,
        description=f"{text} {more}" if more else text,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.splitlines()),
        formatter_class=_Formatter,
    )
    parser.set_defaults(summary=summary)
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this and do nothing else")
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Like argparse's; the examples keep their lines, the description is wrapped."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=96)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class _Parser(MagicArgumentParser):
    """Raises what IPython shows as one line, with the way to more."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; {self.prog} --help tells what there is")

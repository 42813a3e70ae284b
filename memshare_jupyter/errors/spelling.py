"""Names spelt as in R: an error that says how they are spelt here. For all public functions."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from memshare_jupyter.errors.pointing import pointing

_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[.]")
_OTHERS: Final = {"variable_list": "variables", "variable_names": "names", "variable_name": "names"}
"""Arguments that R calls by other words."""
_FLAG: Final = bool | int | float | str | None
"""Of what is given by position, this may be meant for whatever comes next; data are not."""


def explained(function: Callable[..., Any], package: str) -> Callable[..., Any]:
    """Return a public function that, called with arguments it does not take, says what it does.

    Parameters
    ----------
    function : callable
        In Python.
    package : str
        From where users import it: there it is found, too, when it is pickled.

    Examples
    --------
    >>> def apply(X, margin, *, max_cores=None): ...
    >>> explained(apply, "doc")([1], MARGIN=1, MAX_CORES=2)
    Traceback (most recent call last):
    TypeError: apply() spells it otherwise than R: write margin=, max_cores=
    >>> explained(apply, "doc")([1], 2, 3)
    Traceback (most recent call last):
    TypeError: apply() takes X, margin by position and the others by name: write max_cores=3
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        __tracebackhide__ = True  # IPython's: no line of the user's
        try:
            return function(*arguments, **named)
        except TypeError as error:
            entered = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            advice = _advice(function, arguments, named, entered=entered)
            if not advice:
                raise
        raise TypeError(f"{function.__name__}() {advice}")

    made = pointing(call)
    made.__module__ = package
    return made


def counterpart(name: str, ours: Iterable[str]) -> str:
    """Return which of our names is meant by one of R; empty if none is.

    >>> counterpart("registerVariables", ["register_variables", "memapply"])
    'register_variables'
    >>> counterpart("memApply", ["register_variables", "memapply"])
    'memapply'
    """
    meant = name.replace("_", "").lower()
    return next((one for one in ours if one.replace("_", "").lower() == meant), "")


def _advice(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: Mapping[str, Any],
    *,
    entered: bool,
) -> str:
    """Say what is to be written instead; empty if that is not known.

    A function that was entered took all that it was given, and may have passed some of it on.
    """
    import inspect  # noqa: PLC0415 -- slow to import, and seldom asked for

    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        ours = [_ours(name) for name in named if name not in parameters and _ours(name) != name]
        if ours:
            return _written(ours)
    if entered:
        return ""
    by_name = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    in_place = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    ours = [_ours(name) for name in named if name not in parameters]
    if ours and {*ours} <= {*parameters}:
        return _written(ours)
    more = arguments[len(in_place) :]
    if not more or not by_name:
        return ""
    takes = f"takes {', '.join(in_place)} by position and the others by name"
    if len(more) > len(by_name) or not all(isinstance(value, _FLAG) for value in more):
        return f"{takes}: {', '.join(f'{name}=' for name in by_name)}"
    written = ", ".join(f"{n}={value!r}" for n, value in zip(by_name, more, strict=False))
    return f"{takes}: write {written}"


def _written(ours: Iterable[str]) -> str:
    return f"spells it otherwise than R: write {', '.join(f'{name}=' for name in ours)}"


def _ours(name: str) -> str:
    """Return how a name is spelt here.

    >>> [_ours(name) for name in ("MARGIN", "MAX.CORES", "isXDiscrete", "useMPMI", "na.rm")]
    ['margin', 'max_cores', 'x_discrete', 'use_mpmi', 'na_rm']
    """
    spelt = _WORDS.sub("_", name).lower().removeprefix("is_")
    return _OTHERS.get(spelt, spelt)

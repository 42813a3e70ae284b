"""What the magics do with the source of a cell: run it, read it, make a function of it."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError

from memshare_jupyter.core import values
from memshare_jupyter.errors import UnsupportedValueError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

_FUNCTION_NAME: Final = "cell"
_WITH_BLOCKS: Final = (
    *(ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Match),
    *(ast.Try, ast.TryStar),
)


def run(shell: InteractiveShell, cell: str, consequence: str) -> None:
    """Run a cell in the notebook's namespace and show what it shows.

    When it fails its traceback is shown once, and its exception raised so that the cell around
    it fails alike; `consequence` then says what did not happen.
    """
    _raise(shell.run_cell(cell), consequence)


async def run_awaiting(shell: InteractiveShell, cell: str, consequence: str) -> None:
    """Do as `run`, on the event loop that runs, for a cell with ``await`` at top level."""
    transformed = shell.transform_cell(cell)
    _raise(await shell.run_cell_async(cell, transformed_cell=transformed), consequence)


def awaits(shell: InteractiveShell, cell: str) -> bool:
    """Say whether a cell has ``await`` at top level, and so needs an event loop."""
    return shell.should_run_async(cell, transformed_cell=shell.transform_cell(cell))


def _raise(result: ExecutionResult, consequence: str) -> None:
    error: Any = result.error_before_exec or result.error_in_exec
    if error is None:
        return
    if isinstance(error, SyntaxError | UsageError):
        raise UsageError(f"the cell failed, so {consequence}") from None
    # IPython has shown it already; this is what it shows the second time.
    error._render_traceback_ = lambda: [f"the cell failed, so {consequence}"]
    raise error


def assigned_names(source: str) -> list[str]:
    r"""Return the names that a cell assigns at top level, in order.

    Names with a leading underscore, loop variables, functions, classes and imports are not meant.
    What the magic ``%time`` runs counts as part of the cell.

    >>> assigned_names("X, y = load()\nfor i in y: z = i\n_t = 1\ndef f(): a = 1")
    ['X', 'y', 'z']
    """
    return [n for n in dict.fromkeys(_assigned(ast.parse(source).body)) if not n.startswith("_")]


def shareable(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide variables into data (arrays, tables, and containers of arrays) and the others."""
    data: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in found.items():
        (data if is_data(value) else others)[name] = value
    return data, others


def is_data(value: Any) -> bool:
    """Say whether a value is one to share: an array, a table, or a container of arrays."""
    try:
        plan = values.Plan.of(value)
    except UnsupportedValueError:
        return False
    return plan.about.shape is not None and plan.layout.holds_arrays


def function(shell: InteractiveShell, cell: str, parameters: Sequence[str]) -> Callable[..., Any]:
    """Make a function of a cell's source.

    The cell either defines exactly one function, or consists of statements over `parameters` of
    which the last is an expression, the result; one that ends with a lambda defines that. It sees
    the notebook's variables, and leaves none behind.

    Raises
    ------
    UsageError
        The cell is neither.
    """
    for name in parameters:
        if not name.isidentifier() or parameters.count(name) > 1:
            raise UsageError(
                f"{name!r} cannot be the name of one argument of the function that the cell is; "
                "choose names by --item and --vars that are different, and Python's"
            )
    source = shell.transform_cell(cell)
    with _syntax_errors():
        body = ast.parse(source).body
    _refuse_magics(body, cell)
    defined: list[ast.expr] = [
        ast.Name(node.name, ast.Load()) for node in body if isinstance(node, ast.FunctionDef)
    ]
    match body:
        case [*before, ast.Expr(value=ast.Lambda() as made_here)] if not defined:
            body, defined = before, [made_here]
    module = ast.parse(f"def {_FUNCTION_NAME}({', '.join(parameters)}): pass")
    maker = module.body[0]
    assert isinstance(maker, ast.FunctionDef)  # noqa: S101 -- we have just written it
    if len(defined) == 1:
        # Inside a function, so that what else the cell defines goes with it as a closure.
        maker.args.args.clear()
        maker.body = [*body, ast.Return(defined[0])]
    elif not defined and body and isinstance(body[-1], ast.Expr):
        maker.body = [*body[:-1], ast.copy_location(ast.Return(body[-1].value), body[-1])]
    else:
        raise UsageError(
            "the cell must define exactly one function, or end with an expression over "
            f"{', '.join(parameters)}"
        )
    made: dict[str, Any] = {}
    name = shell.compile.cache(source)
    with _syntax_errors():
        code = compile(ast.fix_missing_locations(module), name, "exec")
    exec(code, shell.user_ns, made)  # noqa: S102 -- the cell is the user's own code
    fun: Callable[..., Any] = made[_FUNCTION_NAME]
    return fun() if len(defined) == 1 else fun


def _refuse_magics(body: Sequence[ast.stmt], cell: str) -> None:
    """Raise when a line of a function is IPython's and not Python's: engines have another shell."""
    for node in (node for statement in body for node in ast.walk(statement)):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Name(id="get_ipython")),
                    attr="run_line_magic" | "run_cell_magic" | "system" | "getoutput",
                )
            ):
                lines = cell.splitlines()
                said = lines[node.lineno - 1].strip() if node.lineno <= len(lines) else ""
                raise UsageError(
                    f"line {node.lineno} of the cell ({said}) is a magic of this notebook, and the "
                    "function of the cell runs on engines: write it in Python"
                )


@contextlib.contextmanager
def _syntax_errors() -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise UsageError(f"line {error.lineno} of the cell: {error.msg}") from None


def _assigned(body: Sequence[ast.stmt]) -> Iterator[str]:
    for statement in body:
        for target in _targets(statement):
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
        if isinstance(statement, _WITH_BLOCKS):
            for part in ("body", "orelse", "finalbody"):
                yield from _assigned(getattr(statement, part, []))
            for branch in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
                yield from _assigned(branch.body)
        yield from _assigned(_timed(statement))


def _timed(statement: ast.stmt) -> Sequence[ast.stmt]:
    """Return the statements that ``%time`` runs, as IPython's transformed source has them."""
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(attr="run_line_magic" | "run_cell_magic"),
                args=[ast.Constant("time"), *_, ast.Constant(str(timed))],
            )
        ):
            with contextlib.suppress(SyntaxError):
                return ast.parse(timed).body
    return []


def _targets(statement: ast.stmt) -> Sequence[ast.expr]:
    match statement:
        case ast.Assign(targets=targets):
            return targets
        case ast.AnnAssign(target=target, value=ast.expr()) | ast.AugAssign(target=target):
            return [target]
        case ast.With(items=items) | ast.AsyncWith(items=items):
            return [item.optional_vars for item in items if item.optional_vars is not None]
        case _:
            return []

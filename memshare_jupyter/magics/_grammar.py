"""What may be typed after each magic."""

from __future__ import annotations

import contextlib
import functools
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Final

from memshare_jupyter.magics._lines import parser_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.magic_arguments import MagicArgumentParser

ITEM: Final = {"memapply": "v", "memlapply": "el"}
"""What a cell calls the row, column or element that it is applied to."""


@functools.cache
def commands() -> dict[str, MagicArgumentParser]:
    """Return the parser of each subcommand of ``%memshare``."""
    made: dict[str, MagicArgumentParser] = {}

    def command(name: str, summary: str, examples: str, more: str = "") -> MagicArgumentParser:
        made[name] = parser_of(f"%memshare {name}", summary, examples, more)
        return made[name]

    p = command(
        "list",
        "show the pages of every process on this host, and who holds them",
        "%memshare\n%memshare list rna\n%memshare list --mine\n%memshare list --hosts",
    )
    p.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="only this namespace")
    p.add_argument(
        "--mine", action="store_true", help="only what this process owns or has attached"
    )
    p.add_argument(
        "--hosts", action="store_true", help="instead, the hosts of the engines and what they have"
    )

    p = command(
        "info",
        "tell all about pages, and who holds them; takes no view",
        "%memshare info rna.X",
    )
    _pages(p)

    p = command(
        "register",
        "put variables, or what a cell assigns, into shared memory",
        "%memshare register rna X y\n%%memshare register rna --replace",
        "Before a cell it runs the cell, and registers the arrays that this assigned at top level, "
        "or the names given. Registering a name again replaces its page.",
    )
    p.add_argument(
        *("namespace",),
        nargs="?",
        metavar="NAMESPACE",
        help="name of the sharing context; may be left out if MemshareMagics.namespace is set",
    )
    p.add_argument("names", nargs="*", metavar="VARIABLE", help="variables of the notebook")
    p.add_argument("--order", choices=["C", "F"], help="memory order of the arrays")
    p.add_argument("--dtype", help="convert the numbers in the arrays, for example to float32")
    p.add_argument("--writable", action="store_true", help="viewers may write: attach --mode r+")
    p.add_argument(
        *("--replace",),
        action="store_true",
        help="make the notebook's variables views of the pages, so that only one copy remains",
    )
    _quiet(p)

    p = command(
        "attach",
        "put views of pages into the notebook, or into the engines for %%px cells",
        "%memshare attach rna.X rna.y\n%memshare attach rna.X --as genes\n"
        "%memshare attach rna.X --engines",
        "The views have the names of the variables. When a page is registered again, its views "
        "keep the old values; attach again to see the new ones.",
    )
    _pages(p)
    p.add_argument("--as", dest="name", metavar="NAME", help="another name for the one page")
    p.add_argument(
        *("--mode",),
        choices=["r", "r+", "c"],
        default="r",
        help="as in numpy.memmap: read; write, if the page is writable; or write to a private copy",
    )
    _engines(p, "attach on these engines instead of here: all, or as in --engines 0,2")
    _quiet(p)

    p = command(
        "detach",
        "end views of pages, and remove the names that stand for them",
        "%memshare detach rna.X\n%memshare detach rna.X --engines",
    )
    _pages(p)
    _engines(p, "detach on these engines instead of here: all, or as in --engines 0,2")
    _quiet(p)

    p = command(
        "release",
        "end this process's ownership of pages",
        "%memshare release rna.X rna.y",
        "Views taken before stay valid; the memory is free when the last of them is gone.",
    )
    _pages(p)
    _quiet(p)

    p = command(
        "adopt",
        "become the owner of pages whose owner has ended while others view them",
        "%memshare adopt rna.X",
        "As after a restart of the kernel that registered them. Nothing is copied.",
    )
    _pages(p)
    _quiet(p)

    p = command(
        "gc",
        "release all that this process owns and detach all that it has attached",
        "%memshare gc rna --dry-run\n%memshare gc rna --engines",
    )
    p.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="only in this namespace")
    p.add_argument(
        "--engines", action="store_true", help="the same on the engines, as well as here"
    )
    p.add_argument("--dry-run", action="store_true", help="only say what would be let go")
    _quiet(p)

    _select(command)

    p = command("panel", "show a live panel of what is shared", "%memshare panel rna")
    p.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="only this namespace")

    command("doctor", "say how memory is shared here, and what is amiss", "%memshare doctor")

    p = command(
        "cluster",
        "say which engines the magics use; start or stop a local cluster, or use another one",
        "%memshare cluster start 4\n%memshare cluster rc\n%memshare cluster stop",
    )
    p.add_argument(
        *("action",),
        nargs="?",
        default="status",
        metavar="start|status|stop|NAME",
        help="or a variable of the notebook with an ipyparallel Client, DirectView or Cluster",
    )
    p.add_argument(
        "n", nargs="?", type=_several, metavar="N", help="start at least so many engines"
    )
    _quiet(p)
    return made


def _select(command: Callable[[str, str, str, str], MagicArgumentParser]) -> None:
    p = command(
        "select",
        "select the columns of a matrix that tell most about y, on the engines",
        "%memshare select rna.X rna.y -k 50 --method cmim\nfound = %memshare select rna.X rna.y "
        "--alpha 0.05",
        "By mutual information, as select_features does; y are labels unless --continuous is "
        "given.",
    )
    p.add_argument("X", help="a page, as namespace.variable, or a variable of the notebook")
    p.add_argument("y", help="likewise: one label, or number, for each row of X")
    how_many = p.add_mutually_exclusive_group()
    how_many.add_argument("-k", type=int, metavar="N", help="so many; default: 50")
    how_many.add_argument(
        *("--alpha",), type=float, help="all discoveries at this false discovery rate"
    )
    p.add_argument(
        *("--method",),
        choices=["top", "mrmr", "jmi", "cmim"],
        default="top",
        help="each column by itself (top, the default), or those that tell most together",
    )
    p.add_argument("--continuous", action="store_true", help="y are numbers, not labels")
    _quiet(p)


@functools.cache
def apply_parser(magic: str) -> MagicArgumentParser:
    """Return the parser of ``%memapply`` or ``%memlapply``."""
    matrix = magic == "memapply"
    item = ITEM[magic]
    parser = parser_of(
        f"%{magic}",
        f"apply a function to each {'row or column of a matrix' if matrix else 'element of a list'}"
        ", on all engines",
        f"res = %{magic} rna.X --fn score --vars y\n%%{magic} rna.X --vars y -o res",
        f"Before a cell, the cell is the function: it defines exactly one, or its last line is an "
        f"expression over {item}, the result. -o gives the name of the results in the notebook, "
        "--out their form: a list, an array, or a page in shared memory.",
    )
    parser.add_argument("X", help="a page, as namespace.variable, or a variable of the notebook")
    parser.add_argument("--fn", metavar="NAME", help="the function, as score or np.std")
    if matrix:
        parser.add_argument(
            *("-m", "--margin"),
            type=lambda text: {"1": "rows", "2": "cols"}.get(text, text),
            choices=["rows", "cols"],
            default="cols",
            help="default: cols; 1 and 2 mean the same, as in R",
        )
    parser.add_argument(
        *("--vars",),
        nargs="+",
        default=[],
        metavar="NAME",
        help="further arguments of the function: variables of X's namespace, or of the notebook, "
        "or pages such as rna.y, which the function knows as y",
    )
    if matrix:
        parser.add_argument(
            *("--batch",),
            action="store_true",
            help="give the function a matrix of many rows or columns at once; it returns as many "
            "results",
        )
    parser.add_argument(
        *("--item",), default=item, metavar="NAME", help=f"what the cell calls it; default: {item}"
    )
    parser.add_argument("-o", metavar="NAME", help="store the results under this name")
    parser.add_argument(
        *("--out",),
        default="list",
        metavar="list|array|series|frame|PAGE",
        help="form of the results: a list (the default), one array, pandas' Series or DataFrame "
        "with the labels of a frame, or a page to register, as rna.scores",
    )
    parser.add_argument(
        *("--seed",),
        type=int,
        metavar="N",
        help="give the function a generator of random numbers, rng, seeded for each item",
    )
    parser.add_argument(
        *("--on-error",),
        choices=["raise", "return"],
        default="raise",
        help="stop at the first error (the default), or put errors in the place of results",
    )
    parser.add_argument("-t", "--targets", help="use these engines: all, 0,2 or 1:3, as in %%%%px")
    parser.add_argument(
        *("--cluster",), metavar="NAME", help="a Client, DirectView or Cluster of the notebook"
    )
    parser.add_argument(
        "--max-cores", type=_several, metavar="N", help="use at most so many engines"
    )
    parser.add_argument(
        *("--hands",),
        type=_several,
        metavar="N",
        help="have one engine of each host start so many processes there, and these do the work",
    )
    parser.add_argument(
        *("-a", "--noblock"),
        dest="block",
        action="store_false",
        help="return at once: a future with .progress, .result() and .cancel()",
    )
    parser.add_argument(
        *("--progress-after",),
        type=float,
        metavar="SECONDS",
        help="show a bar after so many seconds, by default 2; -1 for never",
    )
    _quiet(parser)
    return parser


def overview() -> str:
    """Return the help of ``%memshare`` itself."""
    width = max(map(len, commands()))
    lines = [
        "%memshare              show every page on this host",
        "%memshare SUBCOMMAND   one of those below; %memshare SUBCOMMAND --help tells more",
        "",
        *(f"  {name:<{width}}  {_summary(parser)}" for name, parser in commands().items()),
        "",
        "A page is written namespace.variable, as rna.X.",
    ]
    return "\n".join(lines)


def _summary(parser: MagicArgumentParser) -> str:
    return str(parser.get_default("summary"))


def _pages(parser: MagicArgumentParser) -> None:
    parser.add_argument("pages", nargs="+", metavar="NAMESPACE.VARIABLE")


def _engines(parser: MagicArgumentParser, help_text: str) -> None:
    parser.add_argument("--engines", nargs="?", const="all", metavar="IDS", help=help_text)


def _several(text: str) -> int:
    """Read a number of things of which there is at least one."""
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise ArgumentTypeError(f"must be a whole number of at least 1, not {text}")


def _quiet(parser: MagicArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="show nothing")

"""The command ``memshare``: what is shared, seen from a terminal, when the notebook is stuck."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, Final

from memshare_jupyter.core import ledger
from memshare_jupyter.core.api import snapshot
from memshare_jupyter.core.blocks import room, share_bytes
from memshare_jupyter.core.doctor import examine, render
from memshare_jupyter.core.quantities import age, count, in_units
from memshare_jupyter.core.registry import PageInfo, Snapshot
from memshare_jupyter.display import PageTable, details, fitted, near, run_line, runs_of
from memshare_jupyter.errors import MemshareError, PageNotFoundError

_SHOWN_DIRECTORIES: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen) or 0)
    except MemshareError as error:
        print(f"memshare: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memshare", description="Show the pages that kernels and engines share by name."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    parser.set_defaults(run=_ls, namespace=None, holders=False, json=False)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands; ls if there is none")
    ls = commands.add_parser("ls", help="list every page and who holds it")
    ls.add_argument("namespace", nargs="?", help="only this namespace")
    ls.add_argument("--holders", action="store_true", help="list the holders below each page")
    ls.set_defaults(run=_ls)
    info = commands.add_parser("info", help="show all about pages and who holds them")
    info.add_argument("pages", nargs="+", metavar="NAMESPACE.VARIABLE")
    info.set_defaults(run=_info)
    gc = commands.add_parser("gc", help="remove what dead processes left; say who keeps the rest")
    gc.set_defaults(run=_gc)
    doctor = commands.add_parser("doctor", help="say how memory is shared here and what is amiss")
    doctor.set_defaults(run=_doctor)
    top = commands.add_parser(
        "top", help="show runs and the list again every few seconds; q ends it"
    )
    top.add_argument("-d", "--delay", type=float, default=2.0, metavar="SECONDS")
    top.add_argument("-n", "--times", type=int, default=0, help="end after so many")
    top.set_defaults(run=_top)
    for command in (parser, ls, info, gc, doctor, top):
        # No default: that of a command would take back what stands before it.
        command.add_argument(
            "--json", action="store_true", help="print JSON", default=argparse.SUPPRESS
        )
    return parser


def _version() -> str:
    return metadata.version("memshare-jupyter")


def _ls(chosen: argparse.Namespace) -> int:
    every = snapshot().pages
    pages = [page for page in every if chosen.namespace in (None, page.namespace)]
    if chosen.namespace and not pages:
        alike = near(chosen.namespace, {page.namespace for page in every})
        said = ledger.hint(
            ledger.runtime_directory(),
            lambda image: ledger.lists(image, lambda name: name.namespace == chosen.namespace),
        )
        found = f"nothing is shared in namespace {chosen.namespace!r}{alike}"
        raise PageNotFoundError(f"{found}. But {said}" if said else found)
    if chosen.json:
        print(_json(pages))
    elif not pages:
        print(f"nothing is shared{_out_of_sight()}")
    else:
        print(PageTable(pages))
        if chosen.holders:
            print(_holders(pages))
    return 0


def _info(chosen: argparse.Namespace) -> int:
    every = {page.name: page for page in snapshot().pages}
    for name in chosen.pages:
        if name not in every:
            raise PageNotFoundError(f"there is no page {name}{near(name, every)}")
    pages = [every[name] for name in chosen.pages]
    print(_json(pages) if chosen.json else details(pages))
    return 0


def _out_of_sight() -> str:
    """Say which other directories processes of this user share through."""
    directory = ledger.runtime_directory()
    others = ledger.elsewhere(directory)
    if not others:
        return ""
    shown = "; ".join(map(str, others[:_SHOWN_DIRECTORIES]))
    return (
        f" in {directory}, but there is {shown}: to share with it, set {ledger.RUNTIME_VARIABLE} "
        "to the same directory for all"
    )


def _gc(chosen: argparse.Namespace) -> int:
    # Looking is cleaning: it removes the session files of the dead. Memory needs no cleaning.
    kept = [p for p in snapshot().pages if p.state in ("draining", "orphaned")]
    if chosen.json:
        print(_json(kept))
    elif not kept:
        print("nothing is left behind")
    else:
        print("these pages have no owner any more and go with their last holder:")
        print(_holders(kept))
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    checks = examine()
    if chosen.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print(render(checks))
    return int(any(check.state == "fail" for check in checks))


def _top(chosen: argparse.Namespace) -> int:
    shown = 0
    with _keys() as pressed:
        while True:
            now = snapshot()
            print(_line_of(now) if chosen.json else _screen(now), flush=True)
            shown += 1
            if shown == chosen.times or "q" in pressed(chosen.delay):
                return 0


def _line_of(now: Snapshot) -> str:
    """Return a look as JSON, in one line: who reads a stream of looks reads line by line."""
    pages = [_as_dict(page) for page in now.pages]
    return json.dumps({"time": time.time(), "pages": pages, "runs": runs_of(now.pages)})


def _screen(now: Snapshot) -> str:
    """Return what `top` shows; in a terminal no more than fits into its window."""
    runs = "\n".join(map(run_line, runs_of(now.pages)))
    table = repr(PageTable(now.pages)) if now.pages else "nothing is shared"
    parts = [_header(now), runs, table, _holders(now.pages)]
    lines = [line for part in parts if part for line in part.splitlines()]
    if not sys.stdout.isatty():
        return "\n".join(lines)
    colour = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return "\x1b[H\x1b[2J" + fitted(lines, *shutil.get_terminal_size(), colour=colour)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Return a function that waits so many seconds, or less, for what is typed, and returns it."""
    if os.name != "posix" or not sys.stdin.isatty():  # nobody types

        def sleep(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield sleep
        return
    import termios  # noqa: PLC0415 -- not on every system
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return os.read(sys.stdin.fileno(), 100).decode(errors="replace") if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _header(now: Snapshot) -> str:
    free = room()
    return (
        f"{time.strftime('%H:%M:%S')}  {count(len(now.pages), 'page')}, "
        f"{in_units(now.shared_bytes)} shared, {in_units(now.copies_bytes)} as copies; "
        f"{in_units(free.free_bytes)} of {in_units(free.limit_bytes)} free ({free.where})"
    )


def _holders(pages: Sequence[PageInfo]) -> str:
    holders = (holder for page in pages for holder in page.holders)
    shares = {h.session: share_bytes(h.pid, h.pid_namespace) for h in holders}
    lines = []
    for page in pages:
        lines.append(f"{page.name}  {in_units(page.size_bytes)}  {page.state}")
        for holder in page.holders:
            share = shares[holder.session].get(page.uuid, 0)
            lines.append(
                f"  {holder.role:<5}  pid {holder.pid}  {holder.label or '-'}  "
                f"since {age(time.time() - holder.since)}  resident {in_units(share)}"
            )
    return "\n".join(lines)


def _json(pages: Sequence[PageInfo]) -> str:
    return json.dumps([_as_dict(page) for page in pages], indent=2)


def _as_dict(page: PageInfo) -> dict[str, Any]:
    return {**page._asdict(), "holders": [h._asdict() for h in page.holders]}

"""The command ``memshare``: what is shared, seen from a terminal, when the notebook is stuck."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from memshare_jupyter.core.api import snapshot
from memshare_jupyter.core.blocks import in_units, room, share_bytes
from memshare_jupyter.core.doctor import examine, render
from memshare_jupyter.core.registry import PageInfo, Snapshot
from memshare_jupyter.display import PageTable, age, count
from memshare_jupyter.errors import MemshareError


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="list every page and who holds it")
    ls.add_argument("namespace", nargs="?", help="only this namespace")
    ls.add_argument("--holders", action="store_true", help="list the holders below each page")
    ls.set_defaults(run=_ls)
    gc = commands.add_parser("gc", help="remove what dead processes left; say who keeps the rest")
    gc.set_defaults(run=_gc)
    doctor = commands.add_parser("doctor", help="say how memory is shared here and what is amiss")
    doctor.set_defaults(run=_doctor)
    top = commands.add_parser("top", help="show the list again every few seconds")
    top.add_argument("-d", "--delay", type=float, default=2.0, metavar="SECONDS")
    top.add_argument("-n", "--times", type=int, default=0, help="end after so many")
    top.set_defaults(run=_top)
    for command in (ls, gc, doctor):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _ls(chosen: argparse.Namespace) -> int:
    pages = [p for p in snapshot().pages if chosen.namespace in (None, p.namespace)]
    if chosen.json:
        print(_json(pages))
    elif not pages:
        where = f" in namespace {chosen.namespace!r}" if chosen.namespace else ""
        print(f"nothing is shared{where}")
    else:
        print(PageTable(pages))
        if chosen.holders:
            print(_holders(pages))
    return 0


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
    while True:
        now = snapshot()
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(_header(now))
        print(PageTable(now.pages) if now.pages else "nothing is shared")
        print(_holders(now.pages), flush=True)
        shown += 1
        if shown == chosen.times:
            return 0
        time.sleep(chosen.delay)


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
    return {**dataclasses.asdict(page), "holders": [h._asdict() for h in page.holders]}

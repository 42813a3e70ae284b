"""The door to the benchmarks.

``python -m tests.benchmarks apply`` measures `memapply` beside what else there is, ``report``
writes its table and its plot anew, and any other name is that of a script ``bench_NAME.py`` here.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, SERIAL
from tests.benchmarks.race import Race, Size
from tests.benchmarks.report import write

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "benchmarks.json"
SCRIPTS = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}


def apply(options: argparse.Namespace) -> None:
    chosen = {
        name: entry
        for name, entry in CONTENDERS.items()
        if name == SERIAL or not options.contenders or name in options.contenders
    }
    size = Size(options.rows, options.cols, options.large, options.rounds, options.limit)
    results = Race(size, lambda line: print(line, file=sys.stderr, flush=True)).run(chosen)
    options.results.write_text(json.dumps(results, indent=1) + "\n")
    if results["not_installed"]:
        print("left out, not installed:", ", ".join(results["not_installed"]), file=sys.stderr)
    print(options.results)


def report(options: argparse.Namespace) -> None:
    write(json.loads(options.results.read_text()), options.results.with_suffix(".md"))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"scripts: {', '.join(SCRIPTS)}; --help after one of them says what it measures",
    )
    commands = top.add_subparsers(required=True, metavar="{apply,report}")
    default = Size()
    race = commands.add_parser("apply", help="measure, and write the results as JSON")
    race.add_argument("--rows", type=int, default=default.rows)
    race.add_argument("--cols", type=int, default=default.cols)
    race.add_argument("--large", type=int, default=default.large, help="side of the large matrix")
    race.add_argument("--rounds", type=int, default=default.rounds)
    race.add_argument("--limit", type=float, default=default.limit_s, help="seconds for one call")
    race.add_argument("--contenders", nargs="+", choices=CONTENDERS, metavar="NAME")
    race.set_defaults(command=apply)
    again = commands.add_parser("report", help="write table and plot beside the results")
    again.set_defaults(command=report)
    for command in (race, again):
        command.add_argument("--results", type=Path, default=RESULTS)
    return top


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in SCRIPTS:
        del sys.argv[0]
        runpy.run_path(str(SCRIPTS[sys.argv[0]]), run_name="__main__")
        return
    options = parser().parse_args()
    options.command(options)


if __name__ == "__main__":
    main()

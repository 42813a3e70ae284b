"""The results of the apply benchmark as a table, in a page of the documentation, and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.benchmarks.contenders import SERIAL

BEGIN, END = "<!-- apply: begin -->\n", "<!-- apply: end -->\n"
MISSING = "-"
ROUNDS, LOAD = 5, 0.5
"""With fewer rounds, or more load at the start, figures are not to be trusted."""


def write(results: dict[str, Any], page: Path) -> None:
    """Put the tables into a page, between its marks, and the plot beside it."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page.name} must have the lines {BEGIN!r} and {END!r}, in this order")
    page.write_text(before + BEGIN + "\n" + tables(results) + "\n" + END + after)
    plot(results, page.with_suffix(".svg"))


def tables(results: dict[str, Any]) -> str:
    """Return all that the results say, in Markdown."""
    return "\n\n".join(
        [
            _conditions(results),
            "Wall time of a warm call, the matrix already shared, and its ratio to the fastest:",
            _times(results),
            f"Efficiency, the time of the serial loop over {results['workers']} × the wall time:",
            _efficiencies(results),
            "Before the call, and beside it:",
            _costs(results),
            f"{results['size']['large']:,}² in C order: shared, `np.std` of each column, released:",
            _large(results),
            *_failures(results),
        ]
    )


def _conditions(results: dict[str, Any]) -> str:
    machine, size = results["machine"], results["size"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    memory = machine["memory_bytes"]
    said = (
        f"{size['rows']:,} × {size['cols']:,} float64, {results['workers']} workers, medians of "
        f"{size['rounds']} rounds in which the contenders take turns. {machine['cpu']}, "
        f"{machine['cores']} cores{f', {memory / 2**30:.0f} GB' if memory else ''}; "
        f"{machine['kernel']}, Python {machine['python']}, {packages}; load average at the start "
        f"{machine['load_average']:.1f}."
    )
    if size["rounds"] < ROUNDS or machine["load_average"] > LOAD:
        said = f"**Preliminary**: fewer than {ROUNDS} rounds, or a machine with other work. {said}"
    if results["not_installed"]:
        said += f" Not installed, and left out: {', '.join(results['not_installed'])}."
    return said


def apply_medians(results: dict[str, Any], workload: str) -> dict[str, float]:
    """Return the median time of each contender whose results were right in every round."""
    rounds = results["size"]["rounds"]
    times = {name: c["apply_s"].get(workload, []) for name, c in results["contenders"].items()}
    return {name: statistics.median(t) for name, t in times.items() if len(t) == rounds}


def _times(results: dict[str, Any]) -> str:
    def row(workload: str) -> list[str]:
        medians = apply_medians(results, workload)
        fastest = min(medians.values(), default=0.0)

        def cell(name: str) -> str:
            if name not in medians:
                return MISSING
            text = f"{_seconds(medians[name])} ({_ratio(medians[name] / fastest)})"
            return f"**{text}**" if medians[name] == fastest else text

        return [workload, *map(cell, results["contenders"])]

    return _table(["", *results["contenders"]], map(row, results["workloads"]))


def _efficiencies(results: dict[str, Any]) -> str:
    names = [name for name in results["contenders"] if name != SERIAL]

    def row(workload: str) -> list[str]:
        medians = apply_medians(results, workload)
        serial = medians.get(SERIAL)

        def cell(name: str) -> str:
            if serial is None or name not in medians:
                return MISSING
            return f"{serial / (results['workers'] * medians[name]):.2f}"

        return [workload, *map(cell, names)]

    return _table(["", *names], map(row, results["workloads"]))


def _costs(results: dict[str, Any]) -> str:
    rounds = results["size"]["rounds"]
    trivial = {
        order: f"one element, cols, {order} order" for order in ("C", "F")
    }  # as in workloads.py

    def row(name: str) -> list[str]:
        found = results["contenders"][name]

        def median(times: list[float], text: Callable[[float], str] = _seconds) -> str:
            return text(statistics.median(times)) if len(times) == rounds else MISSING

        def per_item(order: str) -> str:
            items = results["workloads"][trivial[order]]
            times = found["apply_s"].get(trivial[order], [])
            return median(times, lambda seconds: f"{1e6 * seconds / items:.2f} µs")

        idle = found["memory"].get("idle")
        return [
            name,
            _seconds(statistics.median(found["startup_s"])) if found["startup_s"] else MISSING,
            str(found["processes"] or MISSING),
            f"{idle / 1e6:,.0f} MB" if idle else MISSING,
            *(median(found["share_s"].get(order, [])) for order in ("C", "F")),
            *(median(found["first_s"].get(order, [])) for order in ("C", "F")),
            *map(per_item, ("C", "F")),
            _growth(found, "matrix"),
        ]

    heads = [
        "", "start to first result", "processes", "idle memory", "share, C", "share, F",
        "first `np.std`, C", "first `np.std`, F", "one element, C, per item",
        "one element, F, per item", "memory growth, in copies",
    ]  # fmt: skip
    return _table(heads, map(row, results["contenders"]))


def _large(results: dict[str, Any]) -> str:
    rounds = results["size"]["rounds"]
    times = {name: found["large_s"] for name, found in results["contenders"].items()}
    medians = {name: statistics.median(t) for name, t in times.items() if len(t) == rounds}
    fastest = min(medians.values(), default=0.0)

    def row(name: str) -> list[str]:
        found, median = results["contenders"][name], medians.get(name)
        peak = found["memory"].get("large", {}).get("peak")
        return [
            name,
            MISSING if median is None else f"{_seconds(median)} ({_ratio(median / fastest)})",
            f"{peak / 1e6:,.0f} MB" if peak else MISSING,
            _growth(found, "large"),
        ]

    heads = ["", "share, apply and release", "peak memory", "memory growth, in copies"]
    return _table(heads, map(row, results["contenders"]))


def _growth(found: dict[str, Any], what: str) -> str:
    memory = found["memory"].get(what)
    if memory is None:
        return MISSING
    return f"{(memory['peak'] - memory['before']) / memory['data']:.2f}"


def _failures(results: dict[str, Any]) -> list[str]:
    said = []
    for name, found in results["contenders"].items():
        said += [f"- {name}: {error}" for error in dict.fromkeys(found["errors"])]
        said += [f"- {name} left behind: {what}" for what in dict.fromkeys(found["left"])]
    return ["What failed:", "\n".join(said)] if said else []


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{1e3 * seconds:.3g} ms"
    return f"{1e6 * seconds:.3g} µs"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw the time of each contender over that of the fastest, a panel for each workload."""
    names = [*results["contenders"]]
    colours = [mpl.colormaps["tab10"](place % 10) for place in range(len(names))]
    columns = 4
    count = -(-len(results["workloads"]) // columns)
    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "apply", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(12, 0.6 + count * (0.6 + 0.17 * len(names))), layout="constrained")
        panels = figure.subplots(count, columns, sharey=True, squeeze=False).ravel()
        for panel, workload in zip(panels, results["workloads"], strict=False):
            medians = apply_medians(results, workload)
            fastest = min(medians.values(), default=1.0)
            for place, name in enumerate(names):
                if name in medians:
                    ratio = medians[name] / fastest
                    panel.barh(place, ratio, color=colours[place])
                    panel.annotate(
                        _seconds(fastest) if ratio == 1 else _ratio(ratio),
                        (ratio, place), (3, 0), textcoords="offset points", va="center",
                    )  # fmt: skip
            panel.set_title(workload, fontsize=9)
            panel.set_xscale("log")
            panel.margins(x=0.35)
            panel.set_xlim(left=0.8)
            panel.set_yticks(range(len(names)), names)
            panel.tick_params(axis="x", which="minor", labelbottom=False)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].invert_yaxis()
        for panel in panels[len(results["workloads"]) :]:
            panel.set_visible(False)
        figure.supxlabel("wall time over that of the fastest (logarithmic; shorter is better)")
        figure.savefig(path, metadata={"Date": None})

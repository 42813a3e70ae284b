"""Run quickstart.ipynb without a browser and print its table: what ``make demo`` does."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

HERE = Path(__file__).parent
EXECUTED = HERE.parent / "build" / "quickstart.ipynb"


def main() -> None:
    notebook = nbformat.read(HERE / "quickstart.ipynb", as_version=4)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    begin = time.monotonic()
    done = 0

    def progress(cell: nbformat.NotebookNode, **_: object) -> None:
        nonlocal done
        if cell.cell_type == "code":
            done += 1
            elapsed_s = time.monotonic() - begin
            line = f"running quickstart.ipynb: cell {done} of {cells}, {elapsed_s:.1f} s"
            end = "\n" if done == cells else ""
            # A terminal sees one line that grows, a log file only the last state.
            if sys.stdout.isatty():
                print(f"\r{line}", end=end, flush=True)
            elif end:
                print(line)

    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        resources={"metadata": {"path": str(HERE)}},
        on_cell_executed=progress,
    ).execute()
    EXECUTED.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, EXECUTED)
    for cell in notebook.cells:
        if "print-in-terminal" in cell.metadata.get("tags", ()):
            print()
            print("".join(out.text for out in cell.outputs if out.output_type == "stream").rstrip())
    print(f"\nThe executed notebook, with the histogram: {EXECUTED}")


if __name__ == "__main__":
    main()

"""Run the notebooks that have no outputs, and store these in them, for ``make docs``.

Who changes a notebook clears its outputs; the next ``make docs`` makes them anew.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

HERE = Path(__file__).parent


def main() -> None:
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        if all(cell.execution_count for cell in code):
            continue
        print(f"running {path.name}", flush=True)
        NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            resources={"metadata": {"path": str(HERE)}},
        ).execute()
        notebook.metadata.pop("widgets", None)  # what is live now is not, when it is read
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()

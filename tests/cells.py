"""Run the IPython cells of a Markdown document from top to bottom: ``python cells.py DOCUMENT``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell


def main(document: str) -> None:
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    text = Path(document).read_text("utf-8")
    for cell in re.findall(r"^```ipython\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        shell.run_cell(cell).raise_error()


if __name__ == "__main__":
    main(sys.argv[1])

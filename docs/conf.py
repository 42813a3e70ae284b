"""The site: ``make docs``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import memshare_jupyter

HERE = Path(__file__).parent

project = "memshare_jupyter"
author = "the memshare_jupyter developers"
copyright = author  # noqa: A001 -- Sphinx's name for it
version = release = memshare_jupyter.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
]
templates_path = ["_templates"]

# Pages are Markdown that can be read in the repository as well.
myst_heading_anchors = 4

# Notebooks are stored with their outputs (notebooks/store_outputs.py). They live beside docs/.
nb_execution_mode = "off"
shutil.copytree(
    HERE.parent / "notebooks",
    HERE / "notebooks",
    dirs_exist_ok=True,
    ignore=lambda _, names: {name for name in names if not name.endswith(".ipynb")},
)

# The reference: a page of each public name, from its docstring.
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it in words
numpydoc_show_class_members = False  # the template of a class does
numpydoc_validation_checks = {
    "all",
    *("ES01", "SA01", "SA04", "EX01"),  # not everything needs more than a sentence
    *(
        "GL01",
        "GL08",
        "SS06",
        "PR08",
        "PR09",
        "RT01",
        "RT02",
        "RT03",
        "RT04",
        "RT05",
        "YD01",
    ),  # style
}
# What the package makes, and not its users: nobody calls these, and what they have is inherited.
numpydoc_validation_exclude = {r"Error$", r"\.(LocalCluster|Run|SelectedFeatures|View)(\.|$)"}


def skip(_app, what, name, value, skipped, _options):
    """Leave out of `View` what numpy describes."""
    of_view = getattr(value, "__qualname__", "").startswith("View.")
    return True if what == "class" and of_view and hasattr(np.ndarray, name) else skipped


def setup(app):
    """Let Sphinx ask."""
    app.connect("autodoc-skip-member", skip)


extlinks = {"doi": ("https://doi.org/%s", "doi:%s")}

html_theme = "pydata_sphinx_theme"
html_title = "memshare_jupyter"
html_sourcelink_suffix = ""
html_show_sourcelink = False
html_sidebars = {"**": ["contents"]}
html_theme_options = {
    "navbar_center": [],  # all pages are at the side
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

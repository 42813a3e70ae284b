"""The magics: parse a line, make one call, display what it returns.

They import every room but the command line, and nobody imports them: `load` is what ``%load_ext``
calls. Inside, imports go in one direction: lines <- grammar, cells, holding <- notebook <- engines
<- sharing, applying, completion, readonly <- magics.
"""

from memshare_jupyter.magics._magics import load, unload

__all__ = ["load", "unload"]

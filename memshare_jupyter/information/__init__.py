"""Mutual information: the numerics, and on top of them the matrix, the selection and the plots.

The numerics (all but `_matrix`, `_selection` and `_plots`) need numpy and scipy, and import nothing
of ours but the errors: engines unpickle them. The others may import `apply` and all before it. So
the door opens when it is asked for a name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

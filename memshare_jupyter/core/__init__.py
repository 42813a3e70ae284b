"""The shared-memory registry; needs numpy and the standard library only.

Inside it are rooms, and imports go in one direction::

    names, quantities <- { blocks | values | ledger } <- registry <- api, views, namespace, doctor

What is public is loaded with it, all at once: a part that some thread had just begun to load could
not be had in a child that is forked at that moment.
"""

from memshare_jupyter.core import api, namespace, views

__all__ = ["api", "namespace", "views"]

"""The live panel: a widget, what it tells its page and when, and what a click does.

It imports the errors, the core, `display`, and of `apply` the runs that go on. The door opens when
it is asked for a name: to close the panels of a process that has none takes no widgets.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

from ._memapply import memapply as memapply
from ._memapply import memlapply as memlapply
from ._names import NotebookNames as NotebookNames
from ._names import live_pages as live_pages
from ._out import FORMS as FORMS
from ._run import Run as Run
from ._run import current_runs as current_runs
from ._run import last_run as last_run

"""What one engine does in a call: claim items, apply the function, leave the results.

It imports the core and the errors, and nothing of Jupyter's: engines load it, and so does `apply`,
which sends them here (`run`) and shares with them the `Task` and the layout of a call's blocks.
"""

from memshare_jupyter.worker import _layout as layout
from memshare_jupyter.worker import _payload as payload
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._carrying import are_simple, carried, pickled
from memshare_jupyter.worker._failures import Failure, killed, name_of, unreadable
from memshare_jupyter.worker._frames import Columns, columns_of
from memshare_jupyter.worker._items import matrix_of
from memshare_jupyter.worker._kept import MOST_KEPT
from memshare_jupyter.worker._line import connect
from memshare_jupyter.worker._packets import CALL, DROP, FAILED, End
from memshare_jupyter.worker._posts import is_alive, posts_in
from memshare_jupyter.worker._said import Said
from memshare_jupyter.worker._seeds import Seeds
from memshare_jupyter.worker._sources import dumps
from memshare_jupyter.worker._task import Place, Task, World
from memshare_jupyter.worker._work import engine_of_this_call, run, run_in

__all__ = [
    "CALL",
    "DROP",
    "FAILED",
    "MOST_KEPT",
    "Arena",
    "Columns",
    "End",
    "Failure",
    "Place",
    "Said",
    "Seeds",
    "Task",
    "World",
    "are_simple",
    "carried",
    "columns_of",
    "connect",
    "dumps",
    "engine_of_this_call",
    "is_alive",
    "killed",
    "layout",
    "matrix_of",
    "name_of",
    "payload",
    "pickled",
    "posts_in",
    "run",
    "run_in",
    "unreadable",
]

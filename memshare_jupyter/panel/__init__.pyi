from ._opened import close_all as close_all
from ._panel import Panel as Panel

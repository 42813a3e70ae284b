from ._describe import Group as Group
from ._describe import by_host as by_host

from ._bring import bring as bring
from ._describe import Group as Group
from ._describe import by_host as by_host
from ._lead import Lead as Lead
from ._links import Link as Link
from ._links import linked as linked

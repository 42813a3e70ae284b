from ._bring import bring as bring
from ._describe import Group as Group
from ._describe import by_host as by_host
from ._lead import Lead as Lead
from ._links import GONE as GONE
from ._links import Link as Link
from ._links import gather as gather
from ._links import linked as linked

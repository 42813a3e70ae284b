import IPython.core.interactiveshell

from .apply import Run as Run
from .apply import memapply as memapply
from .apply import memlapply as memlapply
from .core.api import adopt as adopt
from .core.api import page_list as page_list
from .core.api import register_variables as register_variables
from .core.api import release_variables as release_variables
from .core.api import retrieve_metadata as retrieve_metadata
from .core.api import snapshot as snapshot
from .core.namespace import Namespace as Namespace
from .core.values import View as View
from .core.views import release_views as release_views
from .core.views import retrieve_views as retrieve_views
from .core.views import view_list as view_list
from .engines import memshare_gc as memshare_gc
from .engines.hosts import register_file as register_file
from .engines.local import LocalCluster as LocalCluster
from .engines.local import local_cluster as local_cluster
from .errors import ClusterError as ClusterError
from .errors import HeaderMismatchError as HeaderMismatchError
from .errors import InvalidNameError as InvalidNameError
from .errors import LockTimeoutError as LockTimeoutError
from .errors import MemApplyError as MemApplyError
from .errors import MemshareError as MemshareError
from .errors import NotEnoughMemoryError as NotEnoughMemoryError
from .errors import NotOwnerError as NotOwnerError
from .errors import PageExistsError as PageExistsError
from .errors import PageNotFoundError as PageNotFoundError
from .errors import ReadOnlyPageError as ReadOnlyPageError
from .errors import RegistryBusyError as RegistryBusyError
from .errors import RegistryCorruptError as RegistryCorruptError
from .errors import TooManyFilesError as TooManyFilesError
from .errors import UnsupportedValueError as UnsupportedValueError
from .information import MutualInfoSelector as MutualInfoSelector
from .information import SelectedFeatures as SelectedFeatures
from .information import class_densities as class_densities
from .information import mutual_info_figure as mutual_info_figure
from .information import mutual_info_matrix as mutual_info_matrix
from .information import mutual_info_pairs as mutual_info_pairs
from .information import mutual_info_score_func as mutual_info_score_func
from .information import mutualinfo as mutualinfo
from .information import select_features as select_features
from .panel import Panel as Panel

__version__: str

def load_ipython_extension(shell: IPython.core.interactiveshell.InteractiveShell) -> None: ...
def unload_ipython_extension(shell: IPython.core.interactiveshell.InteractiveShell) -> None: ...

from ._cluster import LocalCluster as LocalCluster
from ._cluster import cluster_for_call as cluster_for_call
from ._cluster import local_cluster as local_cluster
from ._cluster import running_cluster as running_cluster
from ._cores import default_engines as default_engines
from ._cores import number_of_processes as number_of_processes
from ._starting import in_kernel as in_kernel
from ._starting import take_output as take_output

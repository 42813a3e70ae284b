from ._columns import ColumnMutualInfo as ColumnMutualInfo
from ._matrix import mutual_info_matrix as mutual_info_matrix
from ._matrix import mutual_info_score_func as mutual_info_score_func
from ._mutual_info import mutualinfo as mutualinfo
from ._plots import class_densities as class_densities
from ._plots import mutual_info_figure as mutual_info_figure
from ._selected import SelectedFeatures as SelectedFeatures
from ._selection import select_features as select_features

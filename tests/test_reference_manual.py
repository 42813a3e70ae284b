"""Every function of the R manual, translated: what docs/from-r.md shows gives what it should."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.engines.local import running_cluster

PAGE = (Path(__file__).parents[1] / "docs" / "from-r.md").read_text()
BLOCKS = dict(
    re.findall(
        r"^## ([^\n]+)\n\n```r\n.*?^```\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
)


@pytest.fixture(scope="module", autouse=True)
def no_cluster_is_left():
    yield
    if cluster := running_cluster():
        cluster.stop()


@pytest.fixture
def ran():
    """Run the Python beside an example of R, and return its variables."""
    variables: dict[str, object] = {}

    def run(title):
        exec(compile(BLOCKS[title], f"from-r.md, {title}", "exec"), variables)  # noqa: S102 -- ours
        return variables

    yield run
    variables.clear()
    gc.collect()


def test_every_function_of_the_reference_is_translated():
    named = {
        *("registerVariables", "releaseVariables", "retrieveViews", "releaseViews"),
        *("retrieveMetadata", "pageList", "viewList", "memshare_gc"),
        *("memApply", "memLapply", "mutualinfo"),
    }
    ours = "\n".join(BLOCKS.values())
    for name in named:
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        translated = {"mem_apply": "memapply", "mem_lapply": "memlapply"}.get(snake, snake)
        assert f"`{name}`" in PAGE
        assert f"ms.{translated}(" in ours


def test_the_places_that_are_not_one_to_one_are_numbered():
    assert [int(n) for n in re.findall(r"^(\d)\. \*\*", PAGE, re.MULTILINE)] == list(range(1, 9))


def test_pages_are_listed_until_they_are_released(ran):
    assert ran("Register, look, release")["pages"] == ["study.mat", "study.y"]
    assert ms.page_list() == []


def test_values_without_names_are_refused():
    with pytest.raises(TypeError, match=r"a dict, \{name: value\}, not a list"):
        ms.register_variables("study", [np.eye(2)])


def test_a_view_in_use_is_told_of_and_stays(ran):
    found = ran("Views")
    assert found["total"] == 200
    assert found["listed"] == found["used"] == found["still"] == ["study.mat"]
    assert found["after"] == []


def test_metadata_take_no_view(ran):
    found = ran("Metadata")
    assert (found["kind"], found["rows"], found["columns"]) == ("array", 50, 4)
    with pytest.raises(ms.PageNotFoundError, match="no view of study"):
        ms.release_views("study", "mat")


@pytest.mark.slow
def test_rows_and_columns_give_what_numpy_gives(ran):
    found = ran("Apply")
    mat, y = found["mat"], found["y"]
    expected = [np.corrcoef(column, y)[0, 1] for column in mat.T]
    np.testing.assert_allclose(found["correlations"], expected)
    np.testing.assert_allclose(found["deviations"], mat.std(axis=0, ddof=1))
    np.testing.assert_array_equal(found["largest"], mat.max(axis=1))
    assert len(found["largest"]) == 50  # the reference has as many as columns


@pytest.mark.slow
def test_each_element_of_a_list_is_worked_on(ran):
    assert ran("Apply to a list")["sums"] == [100.0 * i for i in range(1, 101)]


def test_mutual_information_is_that_of_the_reference(ran):
    found = ran("Mutual information")
    assert found["pde"] == pytest.approx(np.log(2), abs=0.03)  # the classes overlap by 1 %
    assert found["same_as_r"] == pytest.approx(found["pde"], rel=1e-9)
    assert found["kde"] > 0.5


@pytest.mark.slow
def test_gc_says_what_was_let_go_here_and_on_engines(ran):
    let_go = ran("Clean up")["let_go"]
    assert let_go["here"] == ["study.y"]
    assert {"engine 0", "engine 1"} < {*let_go} or len(let_go) >= 3


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (lambda: ms.memapply(np.eye(2), MARGIN=2, FUN=np.sum), "write margin=, fun="),
        (lambda: ms.memapply("X", 2, np.sum, NAMESPACE="a", VARS=["y"]), "write namespace=, vars="),
        (lambda: ms.memapply("X", 2, np.sum, CLUSTER=None), "write cluster="),
        (lambda: ms.memlapply([np.eye(2)], FUN=np.sum), "write fun="),
        (lambda: ms.memapply("X", 2, np.sum, **{"MAX.CORES": 2}), "write max_cores="),
        (lambda: ms.mutualinfo([1], [2], isXDiscrete=True), "write x_discrete="),
        (lambda: ms.mutualinfo([1], [2], useMPMI=True, **{"na.rm": True}), "use_mpmi=, na_rm="),
        (
            lambda: ms.mutualinfo([1], [2], False, True),
            "x, y by position and the others by name: write x_discrete=False, y_discrete=True",
        ),
        (
            lambda: ms.mutual_info_matrix(np.eye(2), [1, 2], False, True),
            "X, y by position and the others by name: write x_discrete=False, y_discrete=True",
        ),
        (
            lambda: ms.mutual_info_figure([0.5, 0.2], ["a", "b"]),
            "takes values by position and the others by name: unit=",
        ),
        (lambda: ms.mutual_info_matrix(np.eye(2), [1, 2], isYDiscrete=True), "write y_discrete="),
        (lambda: ms.select_features(np.eye(2), [1, 2], k=1, useMPMI=True), "write use_mpmi="),
        (lambda: ms.register_variables("a", variableList={"y": [1]}), "write variables="),
        (lambda: ms.retrieve_views("a", variableNames=["y"]), "write names="),
        (lambda: ms.retrieve_metadata("a", variableName="y"), "write names="),
        (lambda: ms.register_variables("a", [np.eye(2)]), "must be a dict, {name: value}"),
        (lambda: ms.memapply(np.eye(2), 2, np.sum, vars=[np.eye(2)]), "must be a dict, {name: va"),
        (lambda: ms.memlapply([1], np.sum, "a", vars=[np.eye(2)]), "or names of registered vari"),
        (
            lambda: ms.mutual_info_matrix(np.eye(2), [1, 2], nonsense=1),
            "mutual information has no option nonsense=; it has: x_discrete",
        ),
    ],
)
def test_the_spelling_of_r_is_answered_with_ours(call, written):
    with pytest.raises(TypeError, match=re.escape(written)):
        call()


@pytest.mark.parametrize("name", ["registerVariables", "memApply", "pageList", "Memshare_GC"])
def test_a_function_that_is_spelt_as_in_r_is_found(name):
    with pytest.raises(AttributeError, match="it is spelt ") as error:
        getattr(ms, name)
    assert getattr(ms, str(error.value).split()[-2]).__name__ in ms.__all__


def test_another_name_is_python_s_error():
    with pytest.raises(AttributeError, match="nonsense"):
        ms.nonsense  # noqa: B018 -- to be looked up


def test_what_is_no_spelling_of_ours_is_python_s_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        ms.memapply(np.eye(2), 1, np.sum, nonsense=1)


def test_a_type_error_inside_a_function_is_left_as_it_is():
    with pytest.raises(TypeError, match="fun must be callable"):
        ms.memapply(np.eye(2), 1, None)

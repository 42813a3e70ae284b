"""Stored results of R memshare 1.0.3.1: its own with compat="R", the sound ones without."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from memshare_jupyter.information._kernel_mi import normal_scale, plug_in_bandwidth
from memshare_jupyter.information._mutual_info import mutualinfo
from memshare_jupyter.information._options import DEFAULT_EPS
from memshare_jupyter.information._reference import reference_mutualinfo

DATA = Path(__file__).parents[1] / "data" / "mutualinfo"
CASES = {
    case["id"]: case for case in json.loads((DATA / "manifest.json").read_text("utf-8"))["cases"]
}

# The reference's result is not the one we want; each with its reason.
UNSOUND = {
    "cc_tinyscale_n500": "the radius of 3e-7 is found to an absolute 1e-9",
    "cc_largescale_n500": "at a unit of 1e-11 most densities are below the absolute threshold",
    "cc_zeroinfl_n1000": "over 18 % of the pairs are tied: radius 1e-9, no smoothing",
    "cd_zeroinfl_k5_n1000": "over 18 % of the pairs are tied: radius 1e-9",
    "cc_normal_r0.7_n10446": "the radius is that of 10,000 random draws",
    "cd_k5_n10446": "the radius is that of 10,000 random draws",
    "edge_eps1e-3_cc_n500": "eps is compared in the unit of the data, which ours does not know",
    "edge_eps1e-2_cd_n500": "eps is compared in the unit of the data, which ours does not know",
    "edge_nany_cd_n300": "missing labels without na_rm: an error by default",
    "edge_nan_dd_n300": "missing labels without na_rm: an error by default",
}
SOUND = [
    name
    for name, case in CASES.items()
    if case["kind"] in {"cc", "cd", "dc", "edge"} and not case["error"] and name not in UNSOUND
]


def load(case):
    with np.load(DATA / case["file"]) as data:
        return data["x"], data["y"]


def flags(case):
    arguments = case["arguments"]
    return {
        "x_discrete": arguments["isXDiscrete"],
        "y_discrete": arguments["isYDiscrete"],
        "use_mpmi": arguments["useMPMI"],
        "na_rm": arguments["na_rm"],
        "eps": DEFAULT_EPS if arguments["eps"] is None else arguments["eps"],
    }


@pytest.mark.parametrize(
    "name",
    [n for n, c in CASES.items() if not c["stochastic"] and not c["error"]],
)
def test_compat_gives_the_number_and_the_warnings_of_r(name):
    case = CASES[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = mutualinfo(*load(case), compat="R", **flags(case))
    assert found == pytest.approx(float(case["result"]), rel=1e-9, abs=0)
    assert [str(warning.message) for warning in caught] == case["warnings"]


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["error"]])
def test_compat_stops_where_r_stops_and_says_the_same(name):
    case = CASES[name]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        mutualinfo(*load(case), compat="R", **flags(case))
    assert str(caught.value) == case["error"]


@pytest.mark.parametrize(
    ("name", "run"), [(n, run) for n, c in CASES.items() if c["stochastic"] for run in range(5)]
)
def test_compat_with_the_radii_r_drew_gives_the_number_of_r(name, run):
    case = CASES[name]
    drawn = case["repeats"][run]
    radii = tuple(
        None if drawn[key] is None else float(drawn[key])
        for key in ("pareto_radius_x", "pareto_radius_y")
    )
    options = flags(case)
    del options["use_mpmi"]
    found = reference_mutualinfo(*load(case), radii=radii, **options)
    assert found == pytest.approx(float(drawn["result"]), rel=1e-9, abs=0)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["stochastic"]])
def test_compat_above_10000_values_is_among_the_draws_of_r(name):
    case = CASES[name]
    drawn = [float(run["result"]) for run in case["repeats"]]
    spread = max(drawn) - min(drawn)
    found = mutualinfo(*load(case), compat="R", **flags(case))
    assert min(drawn) - spread <= found <= max(drawn) + spread


@pytest.mark.parametrize("name", SOUND)
def test_default_agrees_where_the_reference_is_sound(name):
    case = CASES[name]
    found = mutualinfo(*load(case), **flags(case))
    # The radius is the upper end of a bisection's last bracket, whose width depends on the
    # scale in the reference and cannot here: up to 7e-10 in these cases.
    assert found == pytest.approx(float(case["result"]), rel=1e-9, abs=0)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["kind"] == "dd"])
def test_default_is_the_plug_in_estimate_of_two_discrete_variables(name):
    case = CASES[name]
    found = mutualinfo(*load(case), **flags(case))
    assert found == pytest.approx(float(case["not_R_plugin_mi_nats"]), rel=1e-12)


MPMI = [n for n, c in CASES.items() if c["kind"] == "mpmi" and not c["error"]]


@pytest.mark.parametrize("name", MPMI)
def test_kernel_bandwidths_are_those_of_r(name):
    case = CASES[name]
    x, y = load(case)
    kept = np.isfinite(x) & np.isfinite(y)
    for values, key in ((x[kept], "bandwidth_x"), (y[kept], "bandwidth_y")):
        scale = normal_scale(values) or values.std(ddof=1)
        assert plug_in_bandwidth(values, scale) == pytest.approx(float(case[key]), rel=1e-12)


@pytest.mark.parametrize("name", MPMI)
def test_default_kernel_estimate_agrees_but_for_labels(name):
    case = CASES[name]
    options = flags(case) | {"y_discrete": False}  # which the reference ignores
    found = mutualinfo(*load(case), **options)
    assert found == pytest.approx(float(case["result"]), rel=1e-9)
    corrected = mutualinfo(*load(case), **options, bias_correction=True)
    # n MI - (n - 1) MI_k cancels about four digits at n = 4,000.
    assert corrected == pytest.approx(float(case["bcmi"]), rel=1e-9)


@pytest.mark.parametrize("name", [n for n in UNSOUND if "nan" not in n])
def test_default_stays_near_the_reference_where_only_details_are_unsound(name):
    case = CASES[name]
    found = mutualinfo(*load(case), **flags(case))
    assert math.isfinite(found)
    if name not in {"cc_largescale_n500", "cc_zeroinfl_n1000"}:
        assert found == pytest.approx(float(case["result"]), rel=0.01)


def test_constant_finite_values_are_reported_as_by_r_when_eps_lets_them_pass():
    x, y = np.ones(10), np.arange(10.0)
    for options in ({}, {"y_discrete": True}):
        with pytest.warns(RuntimeWarning, match="Pareto radius is NaN"):
            assert mutualinfo(x, y, compat="R", eps=0.0, **options) == 0.0

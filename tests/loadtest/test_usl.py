"""The law's solver gives what others' give, and says when nobody should believe it."""

import pytest

from loadtest import usl
from loadtest.stats import t_95

# SPEC SDM91 on a Sun SPARCcenter 2000, the example of the R package `usl`: load and throughput.
SPECSDM91 = [(1, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2), (108, 1828.9), (144, 1775.0), (216, 1702.2)]


def test_it_agrees_with_the_r_package() -> None:
    """Parameters, standard errors and peak as its documentation prints them for its own example."""
    fit = usl.fit(SPECSDM91)
    assert fit is not None
    assert (fit.lambda_, fit.sigma, fit.kappa) == pytest.approx((89.9952330, 0.0277285, 0.0001044), rel=5e-4)
    errors = {name: (half or 0) / t_95(4) for name, half in fit.half_widths.items()}
    assert errors == pytest.approx({"lambda": 14.2134894, "sigma": 0.0091217, "kappa": 0.0000199}, rel=5e-3)
    assert fit.peak_n == pytest.approx(96.52, abs=0.01)
    assert fit.peak_x == pytest.approx(1884, abs=0.5)
    assert fit.doubts == []


@pytest.mark.parametrize("truth", [(20.0, 0.01, 1e-5), (20.0, 0.0, 4e-5), (5.0, 0.2, 0.0), (1000.0, 0.05, 0.002)])
def test_it_finds_the_parameters_that_made_the_points(truth: tuple[float, float, float]) -> None:
    """Also where one of them is nothing."""
    loads = [1, 10, 50, 100, 200, 400, 800]
    fit = usl.fit([(load, usl.throughput(truth, load)) for load in loads])
    assert fit is not None
    assert [fit.lambda_, fit.sigma, fit.kappa] == pytest.approx(truth, rel=1e-4, abs=1e-9)
    assert fit.residuals == pytest.approx([0] * len(loads), abs=1e-3)


def test_parameters_stay_where_they_mean_something() -> None:
    """Points that grow faster than the load would want σ below 0: it is held at 0."""
    fit = usl.fit([(1, 10), (2, 22), (4, 50), (8, 110), (16, 240)])
    assert fit is not None
    assert (fit.sigma, fit.kappa, fit.peak_n) == (0, 0, None)


def test_a_straight_line_tells_nothing_of_the_bend() -> None:
    """Every stream got its pace: the peak is anywhere."""
    fit = usl.fit([(load, 20.0 * load) for load in (10, 20, 40, 80, 160)])
    assert fit is not None
    assert any("grows in step with the load" in doubt for doubt in fit.doubts)


def test_too_few_loads_are_said_to_be_too_few() -> None:
    """Three points always fit; two are no fit at all."""
    fit = usl.fit(SPECSDM91[:3])
    assert fit is not None
    assert any("3 different loads are too few" in doubt for doubt in fit.doubts)
    assert usl.fit(SPECSDM91[:2]) is None
    assert usl.fit([(1, 0.0), (2, 0.0), (3, 0.0)]) is None


def test_points_of_another_shape_are_doubted() -> None:
    """A cliff is not the law's curve."""
    fit = usl.fit([(10, 200), (20, 400), (40, 800), (80, 1600), (90, 200), (100, 100)])
    assert fit is not None
    assert any("not the law's shape" in doubt for doubt in fit.doubts)


def test_equations_without_one_answer_have_none() -> None:
    """And pivoting copes with a zero on the diagonal."""
    assert usl.solve([[1, 2], [2, 4]], [1, 2]) is None
    assert usl.solve([[0, 1], [1, 0]], [3, 4]) == [4, 3]

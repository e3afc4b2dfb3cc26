# SPDX-License-Identifier: MIT
"""Lines through rows: what they are when rows lie on one, and when some do not."""

import pytest

from microbench.report.lines import Line, fit, fit_plane, steady


def test_rows_on_a_line_give_it_back() -> None:
    points = [(x, 7.0 + 3.0 * x) for x in (1, 2, 5, 9)]
    for line in (fit(points), steady(points)):
        assert (line.fixed, line.slope, line.straight) == pytest.approx((7, 3, 1))


def test_one_disturbed_row_does_not_move_a_steady_line() -> None:
    points = [(x, 7.0 + 3.0 * x) for x in range(1, 9)]
    points[2] = (3, 500.0)
    assert steady(points).slope == pytest.approx(3, rel=0.1)
    assert fit(points).slope < 0
    assert steady(points).straight < 0.5


def test_lines_meet_where_they_cost_the_same() -> None:
    flat, steep = Line(10, 0, 1), Line(0, 2, 1)
    assert flat.meets(steep) == steep.meets(flat) == 5
    assert flat.meets(Line(3, 0, 1)) is None


def test_a_plane_is_found() -> None:
    points = [(x, z, 5 + 2.0 * x + 40.0 * z) for x in (1, 8, 32) for z in (0.25, 1, 4)]
    plane = fit_plane(points)
    assert (plane.fixed, plane.a, plane.b, plane.straight) == pytest.approx((5, 2, 40, 1))

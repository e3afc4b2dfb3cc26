# SPDX-License-Identifier: MIT
"""The model of what tracking costs: what is put in comes out, also between the sizes."""

import json
from pathlib import Path

import pytest

import pyhac
from pyhac import calibration
from pyhac.calibration import Manner, costs_of
from pyhac.costs import KNOTS, Costs, Sample, fit

SIZES = tuple(4096 << shift for shift in range(2, 14))
KNOWN = Costs(
    SIZES,
    bases=tuple(100.0 + size / 50 for size in SIZES),
    pages=tuple(700.0 + 100 * number for number in range(len(KNOTS))),
    changes=(5.0,) * len(KNOTS),
    area=33.0,
)


def samples(model: Costs, longest: float = float("inf")) -> list[Sample]:
    found = []
    for size in SIZES:
        for ppt, wpp in ((1, 1), (1, 8), (4, 1), (4, 8), (16, 1), (16, 8)):
            if ppt * 4096 > size:
                continue
            found.append(Sample(size, ppt, wpp, model.ns(size, 1, ppt, ppt * wpp)))
            if found[-1].ns > longest:
                break
    return found


@pytest.mark.parametrize("size", [16384, 24576, 10**6, 33554432, 10**9])
def test_factors_are_found_again(size: int) -> None:
    found = fit(samples(KNOWN), 33.0)
    for ppt, changes, areas in ((1, 1, 1), (5, 15, 3), (100, 5000, 1)):
        wanted = KNOWN.ns(size, areas, ppt, changes)
        assert found.ns(size, areas, ppt, changes) == pytest.approx(wanted, rel=0.01)


def test_behind_the_last_size_base_goes_on() -> None:
    assert KNOWN.base(2 * SIZES[-1]) == pytest.approx(100 + 2 * SIZES[-1] / 50)
    assert KNOWN.ns(2 * SIZES[-1], 1, 10, 0) == pytest.approx(
        KNOWN.base(2 * SIZES[-1]) + 10 * KNOWN.pages[-1]
    )


def test_factors_that_were_not_measured_stay_what_they_were() -> None:
    """Where a transaction is so long that only one shape of it was measured."""
    found = fit(samples(KNOWN, longest=20_000), 0.0)
    assert found.page(SIZES[-1]) == pytest.approx(KNOWN.page(1 << 20), rel=0.1)
    assert found.ns(SIZES[-1], 1, 48, 500) == pytest.approx(
        KNOWN.ns(SIZES[-1], 1, 48, 500), rel=0.1
    )


def test_nothing_is_below_zero() -> None:
    noisy = [sample._replace(ns=1000.0 - 40 * sample.ppt) for sample in samples(KNOWN)]
    found = fit(noisy, 0.0)
    assert min(*found.bases, *found.pages, *found.changes) >= 0


def test_the_choices_are_distinct() -> None:
    words = calibration._choices(64, 16, 8).reshape(-1, 16, 8)
    assert len(words) == 128
    for transaction in words[:20]:
        assert len(set(transaction.reshape(-1).tolist())) == 16 * 8
        assert len({int(word) // 512 for word in transaction.reshape(-1)}) == 16
        assert all(len({int(word) // 512 for word in page}) == 1 for page in transaction)
    assert words.max() < 64 * 512


def test_they_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[list[str]] = []

    def measure(engines: list[str], manner: Manner) -> dict[str, object]:
        asked.append(list(engines))
        return {name: KNOWN.to_json() for name in engines}

    monkeypatch.setattr(calibration, "_measure_apart", measure)
    assert costs_of(["pt"], Manner()) == {"pt": KNOWN}
    assert costs_of(["pt", "compare"], Manner()) == {"pt": KNOWN, "compare": KNOWN}
    costs_of(["pt"], Manner(twin=False))
    costs_of(["pt"], Manner(), anew=True)
    assert asked == [["pt"], ["compare"], ["pt"], ["pt"]]
    file = tmp_path / "hac" / "engines.json"
    kept = json.loads(file.read_text())
    kept["machine"]["kernel"] = "another"
    file.write_text(json.dumps(kept))
    costs_of(["pt"], Manner())
    file.write_text("not JSON")
    costs_of(["pt"], Manner())
    assert len(asked) == 6


def test_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(
        calibration, "_measure_apart", lambda engines, manner: {"pt": KNOWN.to_json()}
    )
    assert costs_of(["pt"], Manner()) == {"pt": KNOWN}


def test_what_cannot_be_measured_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(pyhac.Error, match=r"could not be measured: .*nosuch"):
        costs_of(["nosuch"], Manner())

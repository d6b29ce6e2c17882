"""The page of a comparison: the better run, its gains, and the pairs that differ most."""

import numpy as np
import pytest

from model.errors import DataError
from pipelines.metrics.intervals import Score
from pipelines.report import pictures
from pipelines.report.page import render_comparison
from pipelines.report.tables import mark_gain
from tests.fixtures import reports
from tests.fixtures.html_pages import check_page, decoded, read, rows_of, text


@pytest.fixture(scope="module")
def compared():
    return reports.comparison()


def test_headline_names_the_better_run_and_its_gains(compared):
    soup = read(render_comparison(*compared))
    first, second = (run[:8] for run in compared[0].runs)
    sentence = (
        f"{second} is better than {first}: a clear gain in L1, PSNR and SSIM, and no clear loss, on 12 held-out pairs."
    )
    assert text(soup.select_one(".headline")) == sentence
    assert text(soup.select_one("header .badge.good")) == "✓ A clear gain over the first"
    soup = read(render_comparison(*reports.comparison(blurs=(1.2, 2.5))))
    assert "is worse than" in text(soup.select_one(".headline")) and soup.select_one("header .badge.bad")


def gains(**bounds):
    return {name: Score(value=(low + high) / 2, low=low, high=high, n=12) for name, (low, high) in bounds.items()}


def changed_gains(comparison, *found):
    return comparison.model_copy(update={"gains": dict(zip(comparison.runs[1:], found, strict=True))})


@pytest.mark.parametrize(
    ("bounds", "sentence", "kind"),
    [
        (
            {"l1": (0.1, 0.4), "ssim": (-0.2, -0.1)},
            "is clearly better than 7c1b90d2 in L1, and clearly worse in SSIM",
            "mixed",
        ),
        (
            {"l1": (-0.1, 0.4), "ssim": (0.0, 0.1)},
            "e41f02aa and 7c1b90d2 do not differ clearly in any of 2 scores",
            "unclear",
        ),
        (
            {"l1": (-0.4, -0.1), "ssim": (0, 0.1)},
            "is worse than 7c1b90d2: a clear loss in L1, and no clear gain",
            "bad",
        ),
    ],
)
def test_gains_and_losses_are_described_in_words(compared, bounds, sentence, kind):
    comparison, *images = compared
    soup = read(render_comparison(changed_gains(comparison, gains(**bounds)), *images))
    assert sentence in text(soup.select_one(".headline")) and soup.select_one(f"header .badge.{kind}")
    cells = soup.find(id="gains").find_parent("section").select("td")
    marks = [mark_gain(Score(value=0, low=low, high=high, n=2)) for low, high in bounds.values()]
    assert [text(cell.select_one(".mark")) for cell in cells] == [f"{mark.sign} {mark.word}" for mark in marks]


def test_higher_gains_are_better_in_every_column(compared):
    section = read(render_comparison(*compared)).find(id="gains").find_parent("section")
    assert {text(arrow) for arrow in section.select(".arrow")} == {"↑"}
    gain = compared[0].gains[compared[0].runs[1]]["l1"]
    assert text(section.td).startswith(f"+{gain.value:.2f} +{gain.low:.2f} to +{gain.high:.2f}")


def test_pairs_that_differ_most_come_first(compared):
    comparison, _, targets, drawn = compared
    rows = rows_of(render_comparison(*compared), "pairs")
    first, second = (np.array(comparison.each[run]) for run in comparison.runs)
    order = np.argsort(-np.abs(first - second))[:6]
    assert [text(row.figcaption.strong) for row in rows] == [comparison.names[index] for index in order]
    index, images = order[0], rows[0].find_all("img")
    expected = (*(drawn[run][index] for run in comparison.runs), targets[index])
    assert all(np.array_equal(decoded(image), pixels) for image, pixels in zip(images[1:], expected, strict=True))
    assert [text(node) for node in rows[0].select(".below")] == [
        f"L1 {first[index]:.2f}",
        f"L1 {second[index]:.2f}, the lowest",
    ]


def test_many_runs_are_compared_with_the_first_on_a_page_of_limited_size():
    compared = reports.comparison(4, blurs=(2.0, 1.0, 1.5, 3.0, 2.0, 1.2, 0.5))
    page = render_comparison(*compared)
    check_page(page)
    soup = read(page)
    assert len(soup.select("#gains ~ .scroll tbody tr")) == 6 and "Comparison of 7 runs" in text(soup.h1)
    assert len(soup.find_all("img")) <= pictures.MAX_PICTURES


def test_headline_groups_many_runs_by_outcome():
    comparison, *images = reports.comparison(4, blurs=(2.0, 1.0, 1.5, 3.0, 2.0, 1.2))
    up, down, level = (0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)
    found = (
        gains(l1=bounds, ssim=others)
        for bounds, others in ((up, level), (down, down), (up, down), (level, level), (up, up))
    )
    soup = read(render_comparison(changed_gains(comparison, *found), *images))
    assert text(soup.select_one(".headline")) == (
        "Better than 7c1b90d2: e41f02aa and 44444444; in some scores better and in others worse than 7c1b90d2: "
        "22222222; not clearly different from 7c1b90d2: 33333333; worse than 7c1b90d2: 11111111, on 4 held-out pairs."
    )
    assert soup.select_one("header .badge.mixed")


def test_pictures_of_other_runs_are_refused(compared):
    comparison, sources, targets, drawn = compared
    with pytest.raises(DataError, match=r"Found maps of other .*; pass those of 7c1b"):
        render_comparison(comparison, sources, targets, {"other": next(iter(drawn.values()))})
    with pytest.raises(DataError, match="for 12 names"):
        render_comparison(comparison, sources[:3], targets, drawn)

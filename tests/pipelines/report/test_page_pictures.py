"""Pictures on the page of an evaluation: examples of pairs, histograms and curves."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.metrics.catalogue import METRICS
from pipelines.report import pictures
from pipelines.report.page import render
from pipelines.tracking.loss_curve import LossCurve, StepLosses
from tests.fixtures import reports
from tests.fixtures.html_pages import check_page, decoded, read, rows_of, text

# Examples


def test_examples_have_their_scores_below_them(evaluation, page):
    rows, scores = rows_of(page, "pairs"), evaluation.scores
    order = np.argsort(scores.each["l1"])
    assert [text(row.figcaption.strong) for row in rows] == [
        scores.names[i] for i in [*order[:3], *order[4:7], *order[-3:]]
    ]
    for row in rows:
        number = scores.names.index(text(row.figcaption.strong))
        assert (
            text(row.figcaption.span) == f"L1 {scores.each['l1'][number]:.2f} · SSIM {scores.each['ssim'][number]:.4f}"
        )
        assert [text(label) for label in row.select(".label")] == ["photo (input)", "drawn map", "true map", "error"]
        images = row.find_all("img")
        assert np.array_equal(decoded(images[1]), evaluation.drawn[number])
        assert np.array_equal(decoded(images[2]), evaluation.targets[number])
        assert decoded(images[0]).size == decoded(images[3]).size == (64, 64)
        assert all(scores.names[number] in image["alt"] for image in images)


@pytest.mark.parametrize("count", [2, 3])
def test_few_pairs_are_all_shown(count):
    page = render(reports.evaluation(count, steps=20))
    check_page(page)
    assert len(rows_of(page, "pairs")) == count
    assert [text(title) for title in read(page).find(id="pairs").find_parent("section").find_all("h3")] == (
        ["Best", "Middle", "Worst"] if count == 3 else ["Best", "Worst"]
    )


def test_drawn_photos_are_called_photos(evaluation):
    labels = read(render(reports.with_scores(evaluation, direction="map_to_photo", classes=()))).select(".pair .label")
    assert [text(label) for label in labels[:3]] == ["map (input)", "drawn photo", "true photo"]


def test_error_colours_are_those_of_the_legend(soup):
    legend = np.asarray(decoded(soup.select_one(".legend img")).convert("RGB")).astype(int)[0]
    assert len(legend) == pictures.WORST_ERROR + 1
    lightness = legend @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > -0.5).all() and lightness[-1] - lightness[0] > 200
    true = np.zeros((1, 4, 3), np.uint8)
    drawn = np.array([[[0, 0, 0], [30, 60, 90], [100, 100, 100], [255, 255, 255]]], np.uint8)
    assert pictures.errors(drawn, true).tolist() == [[0, 60, 100, 255]]
    image = decoded({"src": pictures.error_picture(drawn, true)}).convert("RGB")
    assert np.array_equal(np.asarray(image)[0], legend[[0, 60, 100, 100]])
    assert text(soup.select_one(".scale")) == "0 25 50 75 100+"


# Charts


def panels(soup, section):
    return soup.find(id=section).find_parent("section").select("figure.chart")


def test_histograms_count_all_pairs_and_mark_the_median(evaluation, soup):
    found = panels(soup, "spread")
    assert [text(panel.figcaption) for panel in found] == ["L1", "SSIM", "PSNR"]
    for panel, name in zip(found, ("l1", "ssim", "psnr"), strict=True):
        assert sum(int(text(bar).split()[0]) for bar in panel.select("rect title")) == 12
        median = f"median {np.median(evaluation.scores.each[name]):.{METRICS[name].digits}f}"
        assert median == text(panel.select_one(".median-text")) and median in panel.svg["aria-label"]
        assert "(N = 12)" in text(panel.select_one(".axis-label"))


def test_curves_have_a_raw_and_a_smooth_line_or_dots(soup):
    found = panels(soup, "training")
    assert [text(panel.figcaption) for panel in found] == [
        "Generator: adversarial loss",
        "Generator: L1 loss, on the scale [-1, 1]",
        "Discriminator: loss",
        "Held-out pairs: L1, in levels of 255",
        "Held-out pairs: SSIM",
    ]
    assert [len(line["points"].split()) for line in found[0].select("polyline")] == [400, 40]
    assert len(found[3].select("circle")) == 6


def test_page_does_not_grow_with_the_length_of_the_training(evaluation):
    long, short = (len(render(replace(evaluation, curve=reports.curve(steps)))) for steps in (30_000, 1000))
    assert long < short + 10_000


def test_values_that_are_not_finite_are_counted_and_left_out(evaluation):
    losses = [StepLosses(step, 0.0, {"discriminator_loss": np.nan if step % 2 else 1.0}) for step in range(1, 101)]
    panel = panels(read(render(replace(evaluation, curve=LossCurve(losses)))), "training")[0]
    assert text(panel.select_one(".note")) == "50 of 100 values are not finite and are left out."
    assert "nan" not in str(panel)


def test_a_curve_of_0_1_0_has_no_held_out_scores(evaluation):
    soup = read(render(replace(evaluation, curve=LossCurve(evaluation.curve.steps))))
    assert len(panels(soup, "training")) == 3 and "Each checkpoint was scored" not in text(soup)


def test_a_training_without_checkpoints_has_no_curves(evaluation):
    soup = read(render(replace(evaluation, curve=LossCurve())))
    assert "The checkpoints that held the losses of this training are gone." in text(soup)
    assert not panels(soup, "training")

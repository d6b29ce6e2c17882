"""The pages of an evaluation and of a comparison, as a parser of HTML reads them."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from model.errors import DataError
from pipelines.metrics.catalogue import METRICS, SET_METRICS
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import ClassScore, headline
from pipelines.report import pictures
from pipelines.report.page import render, render_comparison
from pipelines.report.tables import NOT_BEATEN
from pipelines.tracking.loss_curve import StepLosses
from tests.fixtures import reports
from tests.fixtures.html_pages import check_page, decoded, read, rows_of, text
from tests.fixtures.project import PROJECT

HOSTILE = "<img src=https://evil.example/x.png onerror=alert(1)></title><script>alert('\"&')</script>"


@pytest.fixture(scope="module")
def evaluation():
    return reports.evaluation()


@pytest.fixture(scope="module")
def page(evaluation):
    return render(evaluation)


@pytest.fixture(scope="module")
def soup(page):
    return read(page)


@pytest.fixture(scope="module")
def compared():
    return reports.comparison()


def with_scores(evaluation, **changes):
    return replace(evaluation, scores=evaluation.scores.model_copy(update=changes))


# The whole page


def test_a_page_is_well_formed_and_needs_nothing_else(page, compared):
    check_page(page)
    check_page(render_comparison(*compared))


def test_the_sections_follow_one_another(soup):
    assert [text(title) for title in soup.find_all("h2")] == [
        "Scores",
        "Pairs",
        "Spread over the pairs",
        "Classes of the maps",
        "Training",
        "Data",
        "Model",
        "Repeat it",
        "Notes",
        "What the scores mean",
    ]


PRINT = """
import hashlib
from tests.fixtures import reports
from pipelines.report.page import render, render_comparison
pages = render(reports.evaluation(4, steps=900)), render_comparison(*reports.comparison(4))
print(*(hashlib.sha256(page.encode()).hexdigest() for page in pages))
"""


def test_the_same_input_gives_the_same_bytes_in_any_process():
    runs = {
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1 and len(runs.pop().split()) == 2


def test_hostile_text_is_shown_and_never_obeyed():
    given = reports.evaluation(
        3,
        names=[HOSTILE, "b", "c"],
        notes=(HOSTILE,),
        run_id=HOSTILE,
        classes=(ClassScore(name=HOSTILE, colours=("#ffffff",), share=1.0, iou=None),),
    )
    given = replace(given, command=HOSTILE, pairs=reports.index(given.scores.names, source=HOSTILE))
    page = render(given)
    check_page(page)
    soup = read(page)
    assert {image["src"][:11] for image in soup.find_all("img")} == {"data:image/"}
    assert page.count("<script") == page.count("onerror=alert(1)>") == 0
    assert text(soup.pre) == " ".join(HOSTILE.split()) == text(soup.title).removeprefix("Evaluation of ")
    comparison, *images = reports.comparison(3, names=(HOSTILE, "b", "c"))
    page = render_comparison(comparison.model_copy(update={"notes": (HOSTILE,), "data_source": HOSTILE}), *images)
    check_page(page)
    assert page.count("<script") == 0 and HOSTILE in [text(node) for node in read(page).select("figcaption strong, li")]


def test_hundreds_of_pairs_stay_small(evaluation):
    many = 50
    sizes = {}
    for times in (1, many):
        each = {name: values * times for name, values in evaluation.scores.each.items()}
        names = tuple(f"val/{number}" for number in range(12 * times))
        given = with_scores(evaluation, each=each, names=names, pairs=len(names))
        images = {what: np.concatenate([getattr(evaluation, what)] * times) for what in ("sources", "drawn", "targets")}
        sizes[times] = len(render(replace(given, **images)))
    assert sizes[many] < 1.05 * sizes[1]
    assert len(rows_of(render(replace(given, **images)), "pairs")) == 9


def test_nine_pairs_of_noise_stay_below_six_megabytes(evaluation):
    noise = np.random.default_rng(0).integers(0, 256, (12, 256, 256, 3), np.uint8)
    assert len(render(replace(evaluation, sources=noise, drawn=noise[::-1], targets=noise))) < 6_000_000


# What it says


def test_the_headline_comes_first_with_its_mark(evaluation, soup):
    assert text(soup.select_one(".headline")) == headline(evaluation.scores)
    assert text(soup.select_one("header .badge.mixed")) == "! Beats the baselines, but not in every score"
    head = {text(row.dt): text(row.dd) for row in soup.select(".head > div")}
    assert head == {
        "Model": "photo to map, 64 pixels, width 64, depth 5, batch norm",
        "Data": evaluation.pairs.source,
        "Held-out pairs": "12",
    }


def test_the_mark_follows_the_headline(evaluation):
    scores = evaluation.scores
    model = scores.model
    good = with_scores(evaluation, model={"l1": model["l1"], "ssim": model["ssim"]})
    perfect = scores.baselines["nearest_map"] | {"l1": Score(value=0, low=0, high=0, n=12)}
    bad = with_scores(evaluation, baselines=scores.baselines | {"nearest_map": perfect})
    for given, kind, word in ((good, "good", "✓ Beats every"), (bad, "bad", "✗ Does not beat what needs no learning")):
        soup = read(render(given))
        assert text(soup.select_one(f"header .badge.{kind}")).startswith(word)
        assert text(soup.select_one(".headline")) == headline(given.scores)


def table_cells(soup):
    """Return every cell of the tables of scores, by row and score."""
    titles = {metric.title: name for name, metric in METRICS.items()}
    cells = {}
    for table in soup.select("table.scores"):
        columns = [titles[text(head)] for head in table.select("thead abbr")]
        for row in table.select("tbody tr"):
            name = row.th.contents[0].strip()
            cells |= {(name, score): cell for score, cell in zip(columns, row.find_all("td"), strict=True)}
    return cells


def test_the_tables_hold_every_score_with_its_interval(evaluation, soup):
    scores, cells = evaluation.scores, table_cells(soup)
    assert [text(table.caption) for table in soup.select("table.scores")] == [
        "Pair by pair",
        "Whole sets of images, knowing nothing of single pairs",
    ]
    rows = {"this model": scores.model, "as trained": scores.as_trained, "mean map": scores.baselines["mean_map"]}
    for row, values in rows.items():
        for name in scores.model:
            if row == "as trained" and name in SET_METRICS:
                assert (row, name) not in cells
            elif name not in values:
                assert text(cells[row, name]) == "\N{EN DASH}"
            else:
                score, digits = values[name], METRICS[name].digits
                shown = f"{score.value:.{digits}f} {score.low:.{digits}f}\N{EN DASH}{score.high:.{digits}f}"
                assert text(cells[row, name]) == shown
                assert cells[row, name]["title"] == "95 % interval over 12 pairs"


def test_a_cell_is_marked_where_a_baseline_is_not_beaten(evaluation, soup):
    marked = {place for place, cell in table_cells(soup).items() if cell.select_one(".mark")}
    assert marked == {("nearest map", "is_lite0")} and evaluation.scores.lost() == (("nearest_map", "is_lite0"),)
    cell = table_cells(soup)["nearest map", "is_lite0"]
    assert "bad" in cell["class"] and text(cell.select_one(".mark")) == f"{NOT_BEATEN.sign} {NOT_BEATEN.word}"


def test_a_head_says_what_a_score_means_and_where_better_is(soup):
    heads = soup.select("table.scores thead th.number")
    assert len(heads) == len(METRICS)
    for head, (_, metric) in zip(heads, METRICS.items(), strict=True):
        better = "less" if metric.lower_is_better else "more"
        assert head.abbr["title"] == f"{metric.meaning}; {better} is better"
        assert text(head) == f"{metric.title} {'↓' if metric.lower_is_better else '↑'}"
    meanings = {text(node) for node in soup.find(id="meanings").find_parent("section").find_all("dd")}
    assert len(meanings) == len(METRICS)


def test_scores_that_were_not_measured_leave_no_column(evaluation):
    kept = {name: evaluation.scores.model[name] for name in ("l1", "ssim", "psnr")}
    soup = read(render(with_scores(evaluation, model=kept, classes=())))
    assert [text(head) for head in soup.select("table.scores thead abbr")] == ["L1", "PSNR", "SSIM"]
    assert len(soup.select("table")) == 1 and soup.find(id="classes") is None


@pytest.mark.parametrize(("norm", "named"), [("batch", True), ("instance", False)])
def test_a_wide_gap_comes_with_advice(evaluation, norm, named):
    config = evaluation.record.config
    changed = config.model_copy(update={"network": config.network.model_copy(update={"norm": norm})})
    given = replace(evaluation, record=evaluation.record.model_copy(update={"config": changed}))
    call = read(render(given)).select_one(".call")
    assert evaluation.scores.gap > 0.1 and "mixed" in call["class"]
    assert text(call.strong) == f"{100 * evaluation.scores.gap:+.1f} %"
    assert ("network.norm=instance" in text(call)) == named
    assert "network.dropout=0" in text(call) and "training.epochs" in text(call)


def test_a_narrow_gap_is_a_number_alone(evaluation):
    call = read(render(with_scores(evaluation, as_trained=evaluation.scores.model))).select_one(".call")
    assert text(call.strong) == "+0.0 %" and "narrows" not in text(call) and "fine" in call["class"]


def test_classes_have_swatches_shares_and_bars(soup):
    rows = soup.select("table.classes tbody tr")
    assert len(rows) == len(reports.CLASSES)
    for row, (name, (colours, share, iou)) in zip(rows, reports.CLASSES.items(), strict=True):
        assert text(row.th) == name and [swatch["fill"] for swatch in row.select(".swatches rect")] == list(colours)
        assert text(row.td) == f"{100 * share:.1f} %"
        if iou is None:
            assert "in no map" in text(row) and not row.select(".gauge")
        else:
            assert float(row.select_one(".fill")["width"]) == pytest.approx(100 * iou)
            assert float(row.select_one(".whisker")["x1"]) == pytest.approx(100 * (iou - 0.06))


@pytest.mark.parametrize("colour", ["red", "#fff", "url(https://evil.example)", "#12345g"])
def test_a_colour_that_is_none_is_refused(evaluation, colour):
    found = ClassScore(name="road", colours=(colour,), share=0.5, iou=None)
    with pytest.raises(DataError, match="of class road is no colour"):
        render(with_scores(evaluation, classes=(found,)))


def test_data_model_settings_and_command_are_told(evaluation, soup):
    facts = {text(row.dt): text(row.dd) for row in soup.select(".facts > div")}
    manifest, pairs = evaluation.manifest, evaluation.pairs
    assert facts["Model sha256"] == manifest.sha256 and facts["Code revision"] == manifest.code_revision
    assert facts["Fingerprint"] == pairs.fingerprint and facts["Pairs trained on"] == "1,096"
    assert (facts["Pairs held out"], facts["Pairs refused"]) == ("12", "1")
    assert "2.4e-06" in facts["ONNX against TensorFlow"] and "0.0001" in facts["ONNX against TensorFlow"]
    flat = evaluation.record.config.flat()
    settings = {text(row.dt): text(row.dd) for row in soup.select(".settings > div")}
    assert settings == {key: flat[key] for key in settings} and {"network.norm", "training.l1_weight"} <= set(settings)
    assert text(soup.pre) == evaluation.command and "user-select: all" in soup.style.string
    assert [text(note) for note in soup.select("li")] == list(evaluation.scores.notes)
    assert "3,000 steps, 40 epochs, 1,834 s at 5.5 images/s." in text(soup)


# Pairs


def test_pairs_stand_with_their_scores_under_them(evaluation, page):
    rows, scores = rows_of(page, "pairs"), evaluation.scores
    order = np.argsort(scores.each["l1"])
    assert [text(row.figcaption.strong) for row in rows] == [
        scores.names[i] for i in [*order[:3], *order[4:7], *order[-3:]]
    ]
    for row in rows:
        place = scores.names.index(text(row.figcaption.strong))
        assert text(row.figcaption.span) == f"L1 {scores.each['l1'][place]:.2f} · SSIM {scores.each['ssim'][place]:.4f}"
        assert [text(label) for label in row.select(".label")] == ["photo, the input", "drawn map", "true map", "error"]
        images = row.find_all("img")
        assert np.array_equal(decoded(images[1]), evaluation.drawn[place])
        assert np.array_equal(decoded(images[2]), evaluation.targets[place])
        assert decoded(images[0]).size == decoded(images[3]).size == (64, 64)
        assert all(scores.names[place] in image["alt"] for image in images)


@pytest.mark.parametrize("count", [2, 3])
def test_few_pairs_are_all_shown(count):
    page = render(reports.evaluation(count, steps=20))
    check_page(page)
    assert len(rows_of(page, "pairs")) == count
    assert [text(title) for title in read(page).find(id="pairs").find_parent("section").find_all("h3")] == (
        ["Best", "In the middle", "Worst"] if count == 3 else ["Best", "Worst"]
    )


def test_drawn_photos_are_called_photos(evaluation):
    labels = read(render(with_scores(evaluation, direction="map_to_photo", classes=()))).select(".pair .label")
    assert [text(label) for label in labels[:3]] == ["map, the input", "drawn photo", "true photo"]


def test_an_error_has_its_colour_on_the_legend(soup):
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


def test_histograms_count_every_pair_and_mark_the_median(evaluation, soup):
    found = panels(soup, "spread")
    assert [text(panel.figcaption) for panel in found] == ["L1", "SSIM", "PSNR"]
    for panel, name in zip(found, ("l1", "ssim", "psnr"), strict=True):
        assert sum(int(text(bar).split()[0]) for bar in panel.select("rect title")) == 12
        median = f"median {np.median(evaluation.scores.each[name]):.{METRICS[name].digits}f}"
        assert median == text(panel.select_one(".median-text")) and median in panel.svg["aria-label"]
        assert "(N = 12)" in text(panel.select_one(".axis-label"))


def test_curves_have_a_restless_line_a_calm_one_and_dots(soup):
    found = panels(soup, "training")
    assert [text(panel.figcaption) for panel in found] == [
        "Generator: adversarial loss",
        "Generator: L1 loss, of values in [-1, 1]",
        "Discriminator: loss",
        "Held out: L1, in levels of 255",
        "Held out: SSIM",
    ]
    assert [len(line["points"].split()) for line in found[0].select("polyline")] == [400, 40]
    assert len(found[3].select("circle")) == 6


def test_the_page_does_not_grow_with_the_training(evaluation):
    long, short = (len(render(replace(evaluation, curve=reports.curve(steps)))) for steps in (30_000, 1000))
    assert long < short + 10_000


def test_lost_values_are_counted_and_left_out(evaluation):
    losses = [StepLosses(step, 0.0, {"discriminator_loss": np.nan if step % 2 else 1.0}) for step in range(1, 101)]
    panel = panels(read(render(replace(evaluation, curve=losses))), "training")[0]
    assert text(panel.select_one(".note")) == "50 of 100 values are not finite and are left out."
    assert "nan" not in str(panel)


def test_a_training_without_losses_says_so(evaluation):
    soup = read(render(replace(evaluation, curve=())))
    assert "The losses of this training were not kept." in text(soup) and not panels(soup, "training")


# Refusals


def test_pictures_of_other_pairs_are_refused(evaluation):
    with pytest.raises(DataError, match=r"targets \(11, 64, 64, 3\) for 12 names"):
        render(replace(evaluation, targets=evaluation.targets[:-1]))
    with pytest.raises(DataError, match=r"Pictures \(drawn\) are float64"):
        render(replace(evaluation, drawn=evaluation.drawn / 255))
    with pytest.raises(DataError, match="Found 2 values of l1 for 12 pairs"):
        render(with_scores(evaluation, each={"l1": (1.0, 2.0)}))

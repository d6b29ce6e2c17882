"""Scores on the page of an evaluation: tables, the gap between training and deployment, classes."""

from dataclasses import replace

import pytest

from model.errors import DataError
from pipelines.metrics.catalogue import METRICS, SET_METRICS
from pipelines.metrics.scores import ClassScore
from pipelines.report.page import render
from pipelines.report.tables import NOT_BEATEN
from tests.fixtures import reports
from tests.fixtures.html_pages import read, text


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


def test_tables_hold_every_score_with_its_interval(evaluation, soup):
    scores, cells = evaluation.scores, table_cells(soup)
    assert [text(table.caption) for table in soup.select("table.scores")] == [
        "Each drawn image compared with the true one",
        "All drawn images compared with all true ones, as sets",
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


def test_cells_of_unbeaten_baselines_are_marked(evaluation, soup):
    marked = {key for key, cell in table_cells(soup).items() if cell.select_one(".mark")}
    assert marked == {("nearest map", "is_lite0")} and evaluation.scores.lost() == (("nearest_map", "is_lite0"),)
    cell = table_cells(soup)["nearest map", "is_lite0"]
    assert "bad" in cell["class"] and text(cell.select_one(".mark")) == f"{NOT_BEATEN.sign} {NOT_BEATEN.word}"


def test_column_headings_explain_the_scores(soup):
    heads = soup.select("table.scores thead th.number")
    assert len(heads) == len(METRICS)
    for head, (_, metric) in zip(heads, METRICS.items(), strict=True):
        better = "lower" if metric.lower_is_better else "higher"
        assert head.abbr["title"] == f"{metric.meaning}; {better} is better"
        assert text(head) == f"{metric.title} {'↓' if metric.lower_is_better else '↑'}"
    meanings = {text(node) for node in soup.find(id="meanings").find_parent("section").find_all("dd")}
    assert len(meanings) == len(METRICS)


def test_scores_that_were_not_measured_have_no_column(evaluation):
    kept = {name: evaluation.scores.model[name] for name in ("l1", "ssim", "psnr")}
    soup = read(render(reports.with_scores(evaluation, model=kept, classes=())))
    assert [text(head) for head in soup.select("table.scores thead abbr")] == ["L1", "PSNR", "SSIM"]
    assert len(soup.select("table")) == 1 and soup.find(id="classes") is None


@pytest.mark.parametrize(
    ("changes", "meaning", "remedies"),
    [
        ({}, "it has no dropout and its batch norms use moving", ["network.dropout=0", "network.norm=instance"]),
        ({"norm": "instance"}, "When deployed, it has no dropout.", ["network.dropout=0 or more training.epochs."]),
        ({"dropout": 0}, "When deployed, its batch norms use moving", ["network.norm=instance", "batch_size or more"]),
    ],
)
def test_a_wide_gap_comes_with_an_explanation_and_advice(evaluation, changes, meaning, remedies):
    config = evaluation.record.config
    changed = config.model_copy(update={"network": config.network.model_copy(update=changes)})
    given = replace(evaluation, record=evaluation.record.model_copy(update={"config": changed}))
    call = read(render(given)).select_one(".call")
    assert evaluation.scores.gap > 0.1 and "mixed" in call["class"]
    assert text(call.strong) == f"{100 * evaluation.scores.gap:+.1f} %"
    assert meaning in text(call) and all(remedy in text(call) for remedy in remedies)
    assert ("network.norm" in text(call)) == ("norm" not in changes)
    assert ("network.dropout" in text(call)) == ("dropout" not in changes)


def test_a_narrow_gap_comes_without_advice(evaluation):
    call = read(render(reports.with_scores(evaluation, as_trained=evaluation.scores.model))).select_one(".call")
    assert text(call.strong) == "+0.0 %" and "To narrow" not in text(call) and "fine" in call["class"]


def test_classes_have_swatches_shares_and_bars(soup):
    rows = soup.select("table.classes tbody tr")
    assert len(rows) == len(reports.CLASSES)
    for row, (name, (colours, share, iou)) in zip(rows, reports.CLASSES.items(), strict=True):
        assert text(row.th) == name and [swatch["fill"] for swatch in row.select(".swatches rect")] == list(colours)
        assert text(row.td) == f"{100 * share:.1f} %"
        if iou is None:
            assert "in neither the true nor the drawn maps" in text(row) and not row.select(".gauge")
        else:
            assert float(row.select_one(".fill")["width"]) == pytest.approx(100 * iou)
            assert float(row.select_one(".whisker")["x1"]) == pytest.approx(100 * (iou - 0.06))


@pytest.mark.parametrize("colour", ["red", "#fff", "url(https://evil.example)", "#12345g"])
def test_an_invalid_colour_is_refused(evaluation, colour):
    found = ClassScore(name="road", colours=(colour,), share=0.5, iou=None)
    with pytest.raises(DataError, match="of class road is not a colour"):
        render(reports.with_scores(evaluation, classes=(found,)))

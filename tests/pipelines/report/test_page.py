"""The page of an evaluation as a whole: well formed, safe, small, and complete."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from model.errors import DataError
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import ClassScore, headline
from pipelines.report.page import render, render_comparison
from tests.fixtures import reports
from tests.fixtures.html_pages import check_page, read, rows_of, text
from tests.fixtures.project import PROJECT

HOSTILE = "<img src=https://evil.example/x.png onerror=alert(1)></title><script>alert('\"&')</script>"


@pytest.fixture(scope="module")
def compared():
    return reports.comparison()


def test_pages_are_well_formed_and_self_contained(page, compared):
    check_page(page)
    check_page(render_comparison(*compared))


def test_sections_are_in_order(soup):
    assert [text(title) for title in soup.find_all("h2")] == [
        "Scores",
        "Examples",
        "Distribution over the pairs",
        "Map classes",
        "Training",
        "Data",
        "Model",
        "Repeat the evaluation",
        "Notes",
        "Meaning of the scores",
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


def test_hostile_text_is_shown_and_never_executed():
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


def test_page_does_not_grow_with_the_number_of_pairs(evaluation):
    many = 50
    sizes = {}
    for times in (1, many):
        each = {name: values * times for name, values in evaluation.scores.each.items()}
        names = tuple(f"val/{number}" for number in range(12 * times))
        given = reports.with_scores(evaluation, each=each, names=names, pairs=len(names))
        images = {what: np.concatenate([getattr(evaluation, what)] * times) for what in ("sources", "drawn", "targets")}
        sizes[times] = len(render(replace(given, **images)))
    assert sizes[many] < 1.05 * sizes[1]
    assert len(rows_of(render(replace(given, **images)), "pairs")) == 9


def test_nine_pairs_of_noise_take_less_than_six_megabytes(evaluation):
    noise = np.random.default_rng(0).integers(0, 256, (12, 256, 256, 3), np.uint8)
    assert len(render(replace(evaluation, sources=noise, drawn=noise[::-1], targets=noise))) < 6_000_000


def test_header_holds_headline_and_badge(evaluation, soup):
    assert text(soup.select_one(".headline")) == headline(evaluation.scores)
    assert text(soup.select_one("header .badge.mixed")) == "! Beats the baselines, but not in every score"
    head = {text(row.dt): text(row.dd) for row in soup.select(".head > div")}
    assert head == {
        "Model": "photo to map, 64 pixels, width 64, depth 5, batch norm",
        "Data": evaluation.pairs.source,
        "Held-out pairs": "12",
    }


def test_badge_agrees_with_the_headline(evaluation):
    scores = evaluation.scores
    model = scores.model
    good = reports.with_scores(evaluation, model={"l1": model["l1"], "ssim": model["ssim"]})
    perfect = scores.baselines["nearest_map"] | {"l1": Score(value=0, low=0, high=0, n=12)}
    bad = reports.with_scores(evaluation, baselines=scores.baselines | {"nearest_map": perfect})
    for given, kind, word in ((good, "good", "✓ Beats every"), (bad, "bad", "✗ Does not beat the baselines")):
        soup = read(render(given))
        assert text(soup.select_one(f"header .badge.{kind}")).startswith(word)
        assert text(soup.select_one(".headline")) == headline(given.scores)


def test_page_holds_data_model_settings_and_command(evaluation, soup):
    facts = {text(row.dt): text(row.dd) for row in soup.select(".facts > div")}
    manifest, pairs = evaluation.manifest, evaluation.pairs
    assert facts["Model sha256"] == manifest.sha256 and facts["Code revision"] == manifest.code_revision
    assert facts["Fingerprint"] == pairs.fingerprint and facts["Training pairs"] == "1,096"
    assert (facts["Held-out pairs"], facts["Rejected pairs"]) == ("12", "1")
    assert (
        facts["ONNX and TensorFlow"].startswith("differ by at most 2.4e-06 ")
        and "0.0001" in facts["ONNX and TensorFlow"]
    )
    flat = evaluation.record.config.flat()
    settings = {text(row.dt): text(row.dd) for row in soup.select(".settings > div")}
    assert settings == {key: flat[key] for key in settings} and {"network.norm", "training.l1_weight"} <= set(settings)
    assert text(soup.pre) == evaluation.command and "user-select: all" in soup.style.string
    assert [text(note) for note in soup.select("li")] == list(evaluation.scores.notes)
    training = "3,000 steps in 40 epochs, 1,834 s at 5.5 images/s. Each checkpoint was scored on 12 held-out pairs."
    assert training in text(soup)


def test_unequal_numbers_of_pictures_and_names_are_refused(evaluation):
    with pytest.raises(DataError, match=r"targets \(11, 64, 64, 3\) for 12 names"):
        render(replace(evaluation, targets=evaluation.targets[:-1]))
    with pytest.raises(DataError, match=r"Pictures \(drawn\) are float64"):
        render(replace(evaluation, drawn=evaluation.drawn / 255))
    with pytest.raises(DataError, match="Found 2 values of l1 for 12 pairs"):
        render(reports.with_scores(evaluation, each={"l1": (1.0, 2.0)}))

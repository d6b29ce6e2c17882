"""Scores of a model: comparison with baselines, the headline, and names of every number."""

import re

import pytest
from pydantic import ValidationError

from model.errors import DataError
from pipelines.metrics.intervals import Score
from pipelines.metrics.scores import ClassScore, Scores, gain, headline


def named(**values):
    return {name: Score(value=value, low=value - 1, high=value + 1, n=4) for name, value in values.items()}


def scores(**model):
    return Scores(
        run_id="1f0c",
        pairs=4,
        data_source="sample",
        data_fingerprint="9b7e",
        direction="photo_to_map",
        model_sha256="aa",
        model=named(**model),
        as_trained=named(l1=28, psnr=20, ssim=0.5),
        baselines={"mean_map": named(ssim=0.5, psnr=20, l1=30, frechet_lite0=40, kernel_lite0=2)},
        classes=(ClassScore(name="road", colours=("#ffffff",), share=0.2, iou=named(l1=0.5)["l1"]),),
        names=("a", "b", "c", "d"),
        each={"l1": (1, 2, 3, 4)},
        notes=(),
    )


WORSE = {"ssim": 0.4, "psnr": 19, "l1": 31, "frechet_lite0": 41, "kernel_lite0": 2.1}
EQUAL = {"ssim": 0.5, "psnr": 20, "l1": 30, "frechet_lite0": 40, "kernel_lite0": 2}
BETTER = {"ssim": 0.6, "psnr": 21, "l1": 29, "frechet_lite0": 39, "kernel_lite0": 1.9}


@pytest.mark.parametrize(("values", "outcome"), [(WORSE, "lost"), (EQUAL, "tied"), (BETTER, "beaten")])
def test_beating_a_baseline_follows_the_direction_of_the_score(values, outcome):
    found = scores(**values)
    every = tuple(("mean_map", name) for name in values)
    assert {name: found.beats("mean_map", name) for name in values} == dict.fromkeys(values, outcome == "beaten")
    assert found.lost() == (every if outcome == "lost" else ())
    assert found.tied() == (every if outcome == "tied" else ())
    assert found.unbeaten() == (() if outcome == "beaten" else every)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (BETTER, "Beats every trivial baseline in all 5 scores, on 4 held-out pairs."),
        (WORSE, "Does not beat every trivial baseline: loses to mean map in all 5 scores, on 4 held-out pairs."),
        (EQUAL, "Does not beat every trivial baseline: ties with mean map in all 5 scores, on 4 held-out pairs."),
        (
            BETTER | {"psnr": 20, "kernel_lite0": 3},
            "SSIM, but loses to mean map in Kernel Lite0, and ties with mean map in PSNR, on 4 held-out pairs.",
        ),
        (BETTER | {"kernel_lite0": 3}, "Beats every trivial baseline in L1 and SSIM, but loses to"),
        (BETTER | {"kernel_lite0": 3}, "but loses to mean map in Kernel Lite0, on 4 held-out pairs."),
    ],
)
def test_headline_is_one_sentence(values, sentence):
    assert sentence in headline(scores(**values))


def test_a_larger_gain_is_better_for_every_score():
    difference = Score(value=2, low=1, high=4, n=5)
    assert gain("ssim", difference) == difference
    assert gain("l1", difference) == Score(value=-2, low=-4, high=-1, n=5)
    with pytest.raises(DataError, match="beauty is not a score; use one of: l1, "):
        gain("beauty", difference)


def test_metrics_are_the_scores_of_the_model_alone():
    found = scores(**BETTER)
    metrics = found.metrics()
    others = {"scores/iou_road", "scores/deployment_gap", "scores/pairs"}
    assert metrics.keys() == {f"scores/{name}" for name in found.model} | others
    assert (metrics["scores/ssim"], metrics["scores/iou_road"], metrics["scores/pairs"]) == (0.6, 0.5, 4)
    assert all(isinstance(value, float | int) for value in metrics.values())
    assert all(re.fullmatch(r"[\w/ .-]+", name) for name in metrics)


def test_scores_survive_json_and_are_immutable():
    found = scores(**BETTER)
    assert Scores.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match="frozen"):
        found.pairs = 5
    with pytest.raises(ValidationError, match="fid"):
        Scores.model_validate(found.model_dump() | {"fid": 3})

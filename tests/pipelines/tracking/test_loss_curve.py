"""The loss curve: its file, the scores of checkpoints, and files of version 0.1.0."""

import numpy as np
import pytest

from model.errors import CheckpointError
from pipelines.tracking.loss_curve import CURVE, LossCurve, StepLosses

STEPS = [StepLosses(step, 1e9 + step, {"generator_loss": 1 / step, "discriminator_loss": 0.5}) for step in (1, 2, 3)]
SCORES = {2: {"val_l1": 3.14159, "val_ssim": 0.5}, 3: {"val_l1": 2.71828, "val_ssim": 0.75}}


def test_losses_and_scores_are_read_as_they_were_written(tmp_path):
    LossCurve(STEPS, SCORES).save(tmp_path / CURVE)
    found = LossCurve.load(tmp_path / CURVE)
    assert found.scores == SCORES
    for step, expected in zip(found.steps, STEPS, strict=True):
        assert (step.step, step.when) == (expected.step, expected.when)
        assert step.losses == pytest.approx(expected.losses)


@pytest.mark.parametrize("curve", [LossCurve(), LossCurve(STEPS), LossCurve([], SCORES)])
def test_a_curve_without_steps_or_without_scores(tmp_path, curve):
    curve.save(tmp_path / CURVE)
    found = LossCurve.load(tmp_path / CURVE)
    assert [step.step for step in found.steps] == [step.step for step in curve.steps] and found.scores == curve.scores


def test_files_of_0_1_0_hold_no_scores(tmp_path):
    LossCurve(STEPS, SCORES).save(tmp_path / CURVE)
    with np.load(tmp_path / CURVE) as arrays:
        np.savez(tmp_path / CURVE, **{name: arrays[name] for name in ("names", "step", "when", "losses")})
    found = LossCurve.load(tmp_path / CURVE)
    assert len(found.steps) == 3 and found.scores == {}


def test_the_newest_checkpoint_has_the_scores_of_all(tmp_path):
    for step in SCORES:
        folder = tmp_path / f"step-{step:08d}"
        folder.mkdir()
        LossCurve(STEPS[:step], {number: SCORES[number] for number in SCORES if number <= step}).save(folder / CURVE)
    assert LossCurve.newest(tmp_path).scores == SCORES
    assert LossCurve.newest(tmp_path / "nothing") == LossCurve()


def test_a_curve_ends_with_the_generator_it_belongs_to():
    found = LossCurve(STEPS, SCORES).until(2)
    assert found == LossCurve(STEPS[:2], {2: SCORES[2]}) and LossCurve(STEPS, SCORES).until(3).steps == STEPS


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"text"])
def test_a_damaged_curve_names_its_file(tmp_path, content):
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000002" / CURVE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-00000002/losses\.npz is damaged; delete the folder"):
        LossCurve.newest(tmp_path)

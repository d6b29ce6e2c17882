"""`training.precision=auto`, and warnings about bfloat16 that has to be emulated."""

import pytest

from pipelines.cluster import number_format
from pipelines.config.loading import load


@pytest.fixture
def choose(monkeypatch):
    """Return a function that chooses the precision of settings on a processor with or without bfloat16."""

    def choose(*settings, bfloat16=True):
        monkeypatch.setattr(number_format, "has_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(number_format, "gpus_have_bfloat16", lambda: not bfloat16)
        return number_format.choose_here(load(None, settings)).training.precision

    return choose


@pytest.mark.parametrize(
    ("settings", "bfloat16", "chosen"),
    [
        ([], True, "mixed_bfloat16"),
        ([], False, "float32"),
        (["training.deterministic=true"], True, "float32"),
        (["training.gpu=true"], False, "mixed_bfloat16"),
        (["training.precision=float32"], True, "float32"),
        (["training.precision=mixed_float16"], True, "mixed_float16"),
    ],
)
def test_precision_fits_the_processor(choose, caplog, settings, bfloat16, chosen):
    assert choose(*settings, bfloat16=bfloat16) == chosen and not caplog.records


def test_emulated_bfloat16_is_used_with_a_warning(choose, caplog):
    assert choose("training.precision=mixed_bfloat16", bfloat16=False) == "mixed_bfloat16"
    assert "emulated" in caplog.text and "set training.precision=auto" in caplog.text
    caplog.clear()
    assert choose("training.precision=mixed_bfloat16") == "mixed_bfloat16" and not caplog.records

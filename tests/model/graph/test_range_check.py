"""The check of the input's range: scaled images are drawn as without it, levels of 0 to 255 are refused."""

import numpy as np
import onnxruntime
import pytest

from model.graph.lowering import lower
from model.graph.range_check import check_range
from model.pixels import to_tensor
from model.spec import NetworkConfig
from tests.fixtures.generators import photos, plain

NETWORK = NetworkConfig(image_size=32, width=2, depth=3)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Fatal: onnxruntime also logs the errors that it raises.
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def sessions():
    """Return a lowered model and the same with the check."""
    lowered = lower(plain(NETWORK))
    return session(lowered), session(check_range(lowered))


def test_scaled_images_are_drawn_bit_for_bit_as_before(sessions):
    without, checked = sessions
    scaled = {"photo": np.clip(photos(NETWORK) * 1.2, -1, 1)}
    assert np.array_equal(checked.run(None, scaled)[0], without.run(None, scaled)[0])
    edges = {"photo": to_tensor(np.resize(np.array([0, 255], np.uint8), (2, 32, 32, 3)))}
    assert np.array_equal(checked.run(None, edges)[0], without.run(None, edges)[0])


@pytest.mark.parametrize("value", [255.0, 1.5, -1.5, -123.7, np.inf])
def test_a_value_out_of_range_is_refused_with_the_formula(sessions, value):
    batch = np.zeros((3, 32, 32, 3), np.float32)
    batch[1, 7, 5, 2] = value
    with pytest.raises(Exception, match=r"photo must hold RGB in \[-1, 1\]: level / 127\.5 - 1"):
        sessions[1].run(None, {"photo": batch})

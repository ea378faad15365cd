import io

import numpy as np
import pytest
from PIL import Image

from paligax import image as image_lib
from paligax.inference import rows


def test_a_batch_has_what_training_would_have_made(vocabulary, lengths):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    ids = rows.prompt_ids(vocabulary, "ab <extra_id_0>", lengths["inputs"])
    assert ids == [100, 101, vocabulary.sentinel(0), 1]
    (image, inputs, image_mask), active = rows.stack([(pixels, ids), None, (None, [5, 1])], 4, lengths)
    assert image.shape == (4, 16, 16, 3) and inputs.shape == (4, 32)
    np.testing.assert_array_equal(image[0], pixels)
    assert not image[1:].any()
    assert inputs[0, :5].tolist() == [*ids, 0] and inputs[2, :3].tolist() == [5, 1, 0]
    assert image_mask.tolist() == [True, False, False, False] and active.tolist() == [True, False, True, False]


def test_a_long_prompt_loses_words_and_not_its_last_sentinel(vocabulary):
    ids = rows.prompt_ids(vocabulary, "x" * 50 + "<extra_id_3>", 10)
    assert ids == [ord("x") + 3] * 8 + [vocabulary.sentinel(3), 1]
    assert rows.prompt_ids(vocabulary, "x" * 50, 10) == [ord("x") + 3] * 9 + [1]
    with pytest.raises(ValueError, match="Prompts must be texts, got int"):
        rows.prompt_ids(vocabulary, 3, 10)


def test_bytes_are_decoded_as_in_training():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 200, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "jpeg")
    found = rows.picture(data.getvalue(), 16)
    np.testing.assert_array_equal(found, image_lib.decode_and_resize(data.getvalue(), 16))  # reduced by 2 while decoded
    np.testing.assert_array_equal(rows.picture(pixels, 16), image_lib.resize(pixels, 16))
    with pytest.raises(ValueError, match=r"Image 3 is float64\[2, 2\]; expected uint8\[H, W, 3\]"):
        rows.picture(np.zeros((2, 2)), 16, "Image 3")

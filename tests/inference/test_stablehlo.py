"""Programs: lowered here, run back by the loader alone, for other platforms too."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from paligax import models
from paligax.inference import decoding, export, exporting, programs, stablehlo


@pytest.fixture(scope="module")
def exported(module, params, vocabulary, lengths, tmp_path_factory):
    place = tmp_path_factory.mktemp("exports")
    export.export(place / "paligax", module, params, vocabulary, feature_lengths=lengths)
    exporting.write(place / "paligax", place / "programs", "stablehlo")
    return place / "programs"


@pytest.mark.slow
def test_any_batch_size_gives_the_models_own_answers(exported, module, params, batch, lengths):
    model = programs.open_programs(exported)
    image, inputs, image_mask = batch
    want = np.asarray(decoding.greedy(module, params, image, inputs, image_mask, lengths["targets"]))
    assert len({row.tobytes() for row in want}) > 2  # the model tells these rows apart
    for rows in (slice(0, 6), slice(2, 5)):
        np.testing.assert_array_equal(model.generate(image[rows], inputs[rows], image_mask[rows]), want[rows])
    states, mask = model.encode(image, inputs, image_mask)
    encode = jax.jit(lambda *example: module.apply({"params": params}, *example, method="encode"))
    own, own_mask = encode(image, inputs, image_mask)
    np.testing.assert_array_equal(mask, own_mask)
    there = np.asarray(own_mask)[..., None]  # what is hidden has any states
    np.testing.assert_allclose(np.where(there, states, 0), np.where(there, own, 0), atol=1e-5)


def test_the_loader_beside_the_programs_needs_jax_alone(exported, batch, module, params, lengths, tmp_path):
    image, inputs, image_mask = batch
    want = np.asarray(decoding.greedy(module, params, image, inputs, image_mask, lengths["targets"]))
    np.savez(tmp_path / "batch.npz", image=image, inputs=inputs, image_mask=image_mask, want=want)
    code = (
        "import sys, numpy as np\nfrom programs import open_programs\nbatch = np.load(sys.argv[1])\n"
        "got = open_programs('.').generate(batch['image'], batch['inputs'], batch['image_mask'])\n"
        "print((got == batch['want']).all(), [m for m in ('paligax', 'flax', 'tensorflow') if m in sys.modules])"
    )
    command = [sys.executable, "-P", "-c", f"import sys\nsys.path.insert(0, '.')\n{code}", str(tmp_path / "batch.npz")]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["True []"], done.stdout + done.stderr


def test_programs_are_for_every_platform_and_hold_no_weights(exported):
    described = json.loads((exported / "programs.json").read_text())
    assert described["platforms"] == ["cpu", "cuda", "tpu"]
    for file in described["programs"].values():
        program = jax.export.deserialize(bytearray((exported / file).read_bytes()))
        assert program.platforms == ("cpu", "cuda", "tpu")
        assert str(program.in_avals[-1].shape[0]) == "batch"
        assert (exported / file).stat().st_size < 200_000
    assert len(described["weights"]) == len(program.in_avals) - 3


def test_what_does_not_fit_is_refused(exported, module, lengths, batch, tmp_path):
    model = programs.open_programs(exported)
    image, inputs, image_mask = batch
    with pytest.raises(ValueError, match=r"image is uint8\[6, 8, 16, 3\]; generate takes uint8\[6, 16, 16, 3\]"):
        model.generate(image[:, :8], inputs, image_mask)
    with pytest.raises(ValueError, match=r"inputs is int64\[6, 32\]; generate takes int32"):
        model.generate(image, inputs.astype(np.int64), image_mask)
    with pytest.raises(FileNotFoundError, match="Was the export copied completely"):
        programs.open_programs(tmp_path)
    with pytest.raises(ValueError, match="Platform 'vpu' is not known"):
        stablehlo.lower(module, models.abstract_params(module, lengths), lengths, platforms=("vpu",))
    with pytest.raises(ValueError, match="ViT generates no text"):
        stablehlo.lower(module.vision, {}, lengths)


def test_kernels_of_one_platform_are_left_out(module):
    with_kernel = models.PaLI(
        vision=module.vision.clone(attention_form="cudnn"), language=module.language.clone(attention_form="splash")
    )
    plain = stablehlo._without_kernels(with_kernel)
    assert plain.vision.attention_form == plain.language.attention_form == "auto"
    assert stablehlo._without_kernels(module) == module

"""On a mesh, a step gathers parameters in bfloat16, layer by layer, and never the batch's activations.

Read from the compiled program: without the constraints of paligax.models.placement it cuts products along what they sum
over, and each device holds activations of the whole batch.
"""

import jax
import pytest

from paligax.batch import TextBatch
from paligax.training import objectives, optimizers, schedules, state, step, trees
from paligax.training.partitioning import Partitioner
from paligax.training.planning import collectives, hlo
from tests.training import toy

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices (XLA_FLAGS of tests/conftest.py)")

BATCH, WIDTH, PATCHES = 64, 32, 16


OTHERS = [pytest.param(shape, marks=pytest.mark.slow) for shape in ((1, 8, 1), (2, 2, 2))]


@pytest.fixture(scope="module", params=[(1, 4, 2), *OTHERS], ids=str)
def compiled(request):
    """(program, its collectives)."""
    vision = toy.vit(width=WIDTH, depth=3, mlp_dim=64, num_heads=4, patch_size=4, dtype="bfloat16", remat="full")
    sizes = dict(width=WIDTH, mlp_dim=64, encoder_depth=3, decoder_depth=3, num_heads=4, head_dim=8)
    model = toy.pali(vision=vision, dtype="bfloat16", remat="dots", **sizes)
    program = state.prepare(
        model,
        objectives.TextLoss(),
        optimizers.Adafactor(schedules.InverseSquareRoot(1e-2)),
        Partitioner(*request.param),
        TextBatch.abstract(batch_size=BATCH, resolution=16, input_length=8, target_length=8),
        devices=jax.devices()[:8],
    )
    text = toy.fast(step.lower_step(program)).as_text()
    return program, collectives.find(hlo.parse(text), 8)


@pytest.mark.slow
def test_no_device_gathers_what_is_computed_for_the_whole_batch(compiled):
    program, found = compiled
    activations = BATCH * PATCHES * WIDTH * 2  # bytes of the smallest: bfloat16, one tower
    weights = max(leaf.size * 4 for leaf in trees.flatten(program.abstract.params).values())
    assert weights < activations
    for one in found:
        if one.kind == "all-gather" and "embed/" not in one.source:
            assert one.whole_bytes <= weights, one


@pytest.mark.slow
def test_rows_change_places_nowhere_but_at_the_embedding(compiled):
    _, found = compiled
    for one in found:
        if one.kind == "all-to-all":
            assert "embed" in one.source, one
    assert any(one.kind in ("all-reduce", "reduce-scatter") for one in found)


@pytest.mark.slow
def test_a_stacks_weights_are_gathered_a_layer_at_a_time(compiled):
    _, found = compiled
    layers = [one for one in found if one.kind == "all-gather" and "/mlp/" in one.source]
    assert layers and all(one.times % 3 == 0 for one in layers)
    assert max(one.whole_bytes for one in layers) <= WIDTH * 64 * 4  # one layer's, not the stack's

import numpy as np
import pytest

from paligax.interop.layouts import Layout, Rule

RNG = np.random.default_rng(0)


def test_a_linear_layer_of_heads():
    layout = Layout(Rule("query", "q.weight", "(n k) d -> d n k"), (6, 2, 4))
    assert layout.foreign_shape == (8, 6) and layout.names == ["q.weight"]
    foreign = RNG.normal(size=(8, 6))
    ours = layout.view(foreign)
    assert ours.shape == (6, 2, 4) and ours.base is not None
    x = RNG.normal(size=6)
    np.testing.assert_allclose(np.einsum("d,dnk->nk", x, ours).reshape(-1), foreign @ x)


def test_a_convolution():
    layout = Layout(Rule("embedding", "conv", "d c h w -> h w c d"), (3, 2, 4, 5))
    assert layout.foreign_shape == (5, 4, 3, 2)
    assert layout.view(np.arange(120).reshape(5, 4, 3, 2))[1, 0, 2, 4] == np.arange(120).reshape(5, 4, 3, 2)[4, 2, 1, 0]


def test_axes_of_size_one_come_and_go():
    assert Layout(Rule("positions", "table", "p d -> 1 p d"), (1, 4, 3)).view(np.zeros((4, 3))).shape == (1, 4, 3)
    layout = Layout(Rule("scale", "scale", "1 1 d -> d"), (3,))
    assert layout.foreign_shape == (1, 1, 3) and layout.view(np.zeros((1, 1, 3))).shape == (3,)


@pytest.mark.parametrize("part", range(3))
def test_a_part_of_a_packed_tensor(part):
    layout = Layout(Rule("key", "in_proj", "(n k) d -> d n k", (part, 3)), (4, 2, 2))
    assert layout.foreign_shape == (12, 4)
    packed = RNG.normal(size=(12, 4))
    np.testing.assert_array_equal(layout.view(packed), packed[4 * part : 4 * part + 4].T.reshape(4, 2, 2))


@pytest.mark.parametrize("index", [(slice(None),) * 4, (slice(1, 3), slice(2, 5), slice(0, 1), slice(1, 4))])
def test_a_shard_is_read_from_the_layers_that_it_needs(index):
    layout = Layout(Rule("query", "layer.{i}.q", "(n k) d -> d n k"), (3, 6, 2, 4))
    tensors = {name: RNG.normal(size=layout.foreign_shape).astype(np.float32) for name in layout.names}
    whole = np.stack([layout.view(tensors[f"layer.{i}.q"]) for i in range(3)])
    asked = []

    def get(name):
        asked.append(name)
        return tensors[name]

    out = np.empty(whole[index].shape, np.float32)
    layout.read(get, index, out)
    np.testing.assert_array_equal(out, whole[index])
    assert asked == [f"layer.{i}.q" for i in range(*index[0].indices(3))]


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (Rule("a", "a"), (3, 4)),
        (Rule("a", "a"), ()),
        (Rule("a", "l{i}", "(n k) d -> d n k"), (2, 6, 2, 4)),
        (Rule("a", "l{i}"), (2, 5)),
        (Rule("a", "a", "d c h w -> h w c d"), (3, 2, 4, 5)),
        (Rule("a", "a", "1 p d -> p d"), (4, 5)),
    ],
)
def test_there_and_back_gives_the_same_bits(rule, shape):
    layout = Layout(rule, shape)
    value = RNG.normal(size=shape).astype(np.float32)
    tensors = {name: np.full(layout.foreign_shape, np.nan, np.float32) for name in layout.names}
    layout.write(value, tensors)
    back = np.empty(shape, np.float32)
    layout.read(tensors.__getitem__, (slice(None),) * len(shape), back)
    np.testing.assert_array_equal(back, value)


def test_rules_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="2 axes.*gives it 3"):
        Layout(Rule("q", "q", "(n k) d -> d n k"), (3, 4))
    with pytest.raises(ValueError, match="different axes"):
        Layout(Rule("q", "q", "d e -> d f"), (3, 4))
    with pytest.raises(ValueError, match="no axis of layers"):
        Layout(Rule("q", "q{i}"), ())

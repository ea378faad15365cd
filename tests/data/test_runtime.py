from paligax.data.runtime import tf


def test_tensorflow_sees_no_accelerator():
    assert tf.config.get_visible_devices("GPU") == []
    assert tf.config.get_visible_devices("CPU")

import jax.numpy as jnp
import pytest

from paligax.training import profiling


def test_a_window_of_steps_is_traced(tmp_path):
    said = []
    window = profiling.Window(tmp_path, 2, 4, said.append)
    for step in range(6):
        window.before(step)
        jnp.arange(8).sum().block_until_ready()
        assert bool(said) == (step >= 4)
    window.close()
    assert list((tmp_path / "profile").rglob("*.xplane.pb")) and len(said) == 1
    assert said[0].startswith("Steps 3 to 4 are traced")


def test_a_run_that_ends_inside_the_window_writes_what_there_is(tmp_path):
    said = []
    window = profiling.Window(tmp_path, 0, 9, said.append)
    window.before(0)
    window.close()
    window.close()
    assert len(said) == 1 and list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_the_flag():
    assert profiling.window("10:15") == (10, 15) and profiling.window("") is None
    for words in ("10", "15:10", "a:b", "3:3", ":"):
        with pytest.raises(ValueError, match="expected FIRST:LAST"):
            profiling.window(words)

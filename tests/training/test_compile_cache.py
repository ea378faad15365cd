import jax
import pytest

from paligax.training import compile_cache


@pytest.fixture
def unset():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_each_kind_of_cpu_has_its_own_directory(tmp_path, unset):
    compile_cache.enable(str(tmp_path))
    assert jax.config.jax_compilation_cache_dir.startswith(f"{tmp_path}/cpu-")


def test_the_users_choice_for_jax_stands(tmp_path, unset):
    jax.config.update("jax_compilation_cache_dir", "/somewhere")
    compile_cache.enable(str(tmp_path))
    assert jax.config.jax_compilation_cache_dir == "/somewhere"


def test_no_directory_no_cache(unset):
    compile_cache.enable("")
    assert jax.config.jax_compilation_cache_dir is None

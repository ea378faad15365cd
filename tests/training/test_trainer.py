import pytest

from tests.training import toy


@pytest.mark.parametrize("name", ["train_steps", "num_microbatches", "checkpoint_every", "keep", "log_every"])
def test_counts_are_positive(name):
    with pytest.raises(ValueError, match=f"Trainer.{name} must be at least 1, got 0"):
        toy.trainer(**({"steps": 0} if name == "train_steps" else {name: 0}))

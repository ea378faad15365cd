import subprocess
import sys

from paligax.data import Data


def test_the_door_does_not_import_tensorflow():
    program = """
import sys
from paligax.data import Data
Data("m", {"image": 8, "inputs": 4, "targets": 4}, 2)
import paligax.image
assert not {"tensorflow", "seqio", "tensorflow_datasets"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_defaults():
    data = Data("m", {"image": 8, "inputs": 4, "targets": 4}, 2)
    assert data.split == "train" and data.seed == 0 and data.shuffle and data.rates is None
    assert data.task_modules == ("tasks.pretrain",)

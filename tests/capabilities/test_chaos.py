"""Killed at random again and again, a run ends with the parameters of the uninterrupted one, bit for bit."""

import random
import time

import pytest

from paligax.training import run_log, watching
from paligax.training.stopping import LOST_EXIT_CODE
from tests.capabilities.test_kill_and_resume import check_same_end
from tests.capabilities.test_lost_process import finish, output, start


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
def test_a_few_kills(tmp_path, cache):
    check_kills(3, 2, tmp_path, cache)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("num_processes", [1, 2])
def test_fifty_kills(num_processes, tmp_path, cache):
    check_kills(50, num_processes, tmp_path, cache)


def check_kills(number, num_processes, here, cache, seed=0):
    steps = f"--steps={10 * number}"
    finish(here / "reference", cache, steps, processes=num_processes)
    chance, run, kills = random.Random(seed), here / "run", 0
    while kills < number:
        processes = start(run, cache, steps, "--pause=0.02", processes=num_processes)
        kill_at_random(chance, run, processes)
        codes = [process.wait(timeout=100) for process in processes]
        said = output(run, 0).read_text()[-3000:]
        assert 0 not in codes, f"it ended before {number} kills"
        assert sorted(codes) == [-9, LOST_EXIT_CODE][:num_processes], said
        kills += 1
    finish(run, cache, steps, processes=num_processes)
    check_same_end(run, here / "reference")
    # Some were killed before the run was open; the others are all in the log of starts, none of them with an end.
    found = watching.starts(run)
    print(f"{kills} kills, {len(found)} starts that came to training")
    assert found[-1].exit_code == 0 and number // 2 <= len(found) <= number + 1


def kill_at_random(chance, run, processes):
    """One of them, between the moment of its start and eight steps after the first new ones."""
    if chance.random() < 0.2:
        time.sleep(chance.uniform(1.0, 6.0))
    else:
        lines = len(run_log.read(run))
        more = chance.randrange(1, 5)
        while len(run_log.read(run)) < lines + more and all(process.poll() is None for process in processes):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
    chance.choice(processes).kill()

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("apache_beam")

from paligax.data.ingest import worker

WATCHES = """
import os, sys
from paligax.data.ingest import worker
worker.POLL = 0.1
worker._end_with(int(sys.argv[1]), os.getppid())
"""


def test_it_ends_when_the_pipelines_process_is_gone():
    waits = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watches = subprocess.Popen([sys.executable, "-c", WATCHES, str(waits.pid)])
    time.sleep(0.5)
    assert watches.poll() is None and worker._is_there(waits.pid)
    waits.kill()
    waits.wait()
    assert watches.wait(timeout=60) == 1 and not worker._is_there(waits.pid)


def test_it_is_there_itself():
    assert worker._is_there(os.getpid())

import os
import signal
import subprocess
import sys
import time

import pytest

from paligax.training.stopping import EXIT_CODE, Interrupted, Preempted, StopRequests


def test_sigterm_is_noticed_between_steps_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        assert not stop.requested(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested(2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_ctrl_c_ends_at_once():
    with StopRequests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass


def test_preempted_is_an_exit_with_its_own_code():
    with pytest.raises(SystemExit) as caught:
        raise Preempted(30)
    assert caught.value.code == EXIT_CODE == 75 and "step 30" in str(caught.value)


def test_what_may_be_left_half_done_is_left_at_once():
    with StopRequests() as stop:
        with pytest.raises(Interrupted), stop.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                pass
        assert stop.requested(1)
        with pytest.raises(Interrupted), stop.interruptible():
            pytest.fail("it was asked to stop before")


def test_outside_of_it_nothing_is_left():
    with StopRequests() as stop:
        with stop.interruptible():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested(1)


@pytest.mark.slow
def test_with_nothing_to_save_not_even_a_library_is_waited_for():
    script = """
import hashlib, os, signal, threading
from paligax.training.stopping import StopRequests
with StopRequests() as stop, stop.interruptible(nothing_to_save=True):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, without Python's lock
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == EXIT_CODE and time.monotonic() - began < 30
    assert "nothing new to save" in done.stdout

import os
import signal

import pytest

from paligax.training.stopping import EXIT_CODE, Preempted, StopRequests


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

import pytest

from paligax.training import peers
from paligax.training.stopping import LOST_EXIT_CODE, Preempted

VARIABLES = {"PALIGAX_COORDINATOR": "host:1234", "PALIGAX_NUM_PROCESSES": "2", "PALIGAX_PROCESS_ID": "1"}


def test_without_a_launcher_there_is_nothing_to_join():
    peers.join({})
    peers.tell("heard by nobody")
    peers.leave(1)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"PALIGAX_COORDINATOR": "host"}, "expected HOST:PORT of process 0, or auto"),
        ({"PALIGAX_NUM_PROCESSES": ""}, "PALIGAX_NUM_PROCESSES is not set"),
        ({"PALIGAX_PROCESS_ID": "one"}, "PALIGAX_PROCESS_ID is one"),
        ({"PALIGAX_PROCESS_ID": "2"}, "none of the 2 processes"),
        ({"PALIGAX_LOST_SECONDS": "soon"}, "PALIGAX_LOST_SECONDS is soon"),
    ],
)
def test_wrong_variables_are_named(changed, said):
    with pytest.raises(ValueError, match=said):
        peers.join(VARIABLES | changed)


def test_alone_errors_stay_what_they_are():
    for error in (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), Preempted(3)):
        assert peers.explain(error) is error and not peers.are_left(error)


class Client:
    """jax's, with a store of its own."""

    def __init__(self, **values):
        self.values = {f"paligax/{name}": value for name, value in values.items()}

    def key_value_try_get(self, key):
        return self.values[key]

    def key_value_set(self, key, value):
        if key in self.values:
            raise RuntimeError("ALREADY_EXISTS")
        self.values[key] = value


@pytest.fixture
def client(monkeypatch):
    made = Client()
    monkeypatch.setattr(peers, "_client", lambda: made)
    monkeypatch.setattr(peers, "_who", lambda: "Process 1 of 2")
    monkeypatch.setattr(peers, "POLL_SECONDS", 0.05)
    return made


def test_an_error_of_its_own_is_told_to_the_others_and_only_the_first_is_heard(client):
    error = OSError("the shard is gone\nand more")
    assert peers.explain(error) is error and peers.are_left(error)
    assert client.values == {"paligax/failed": "Process 1 of 2: the shard is gone"}
    peers.tell("later")
    assert client.values == {"paligax/failed": "Process 1 of 2: the shard is gone"}
    assert not peers.are_left(Preempted(3)), "all stop together"


@pytest.mark.parametrize("told", ["", "Process 0 of 2: the disk is full"])
def test_a_broken_connection_is_a_lost_process(client, told, capsys):
    if told:
        client.values["paligax/failed"] = told
    lost = peers.explain(
        ValueError("UNKNOWN: Gloo AllGather failed: [pair.cc:547] Connection closed by peer [1.2.3.4]")
    )
    assert isinstance(lost, peers.LostProcess) and lost.code == LOST_EXIT_CODE == 76
    assert (told or "Connection closed by peer") in str(lost)
    assert str(lost) in capsys.readouterr().err


def test_an_error_that_came_of_a_broken_connection_is_one_too(client):
    try:
        try:
            raise ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
        except ValueError as error:
            raise RuntimeError("The checkpoint could not be written") from error
    except RuntimeError as error:
        assert isinstance(peers.explain(error), peers.LostProcess)


def test_an_error_that_only_speaks_of_peers_is_no_lost_process(client):
    error = ValueError("Partitioner: peer review of the mesh failed")
    assert peers.explain(error) is error

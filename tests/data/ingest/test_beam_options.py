import pytest

pytest.importorskip("apache_beam")

from paligax.data.ingest.beam_options import options


def chosen(*arguments, work=100):
    found = options(arguments, work).get_all_options()
    return found["runner"], found["direct_running_mode"], found["direct_num_workers"]


def test_workers_are_as_many_as_there_is_work_for():
    assert chosen("--direct_num_workers=3") == ("FnApiRunner", "multi_processing", 3)
    assert chosen("--runner=DirectRunner", "--direct_num_workers=3") == ("FnApiRunner", "multi_processing", 3)
    assert chosen(work=1)[1] == "in_memory"
    assert chosen("--runner=FnApiRunner")[1] == "in_memory"


def test_other_runners_and_their_options_pass():
    found = options(["--runner=flinkrunner", "--flink_master=host:8081", "--known_to_the_server_alone=1"])
    assert found.get_all_options()["runner"] == "FlinkRunner"
    assert found.get_all_options(retain_unknown_options=True)["known_to_the_server_alone"] == "1"
    assert options(["--runner=dataflow"]).get_all_options()["runner"] == "DataflowRunner"
    assert options(["--runner=mine.runners.Own"]).get_all_options()["runner"] == "mine.runners.Own"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runner=FlinkRuner"], "runner=FlinkRuner is not known; did you mean 'FlinkRunner'"),
        (["--runner=nothing_like_it"], "Known: .*FlinkRunner"),
        (["--direct_num_workers=0"], "direct_num_workers=0: expected a whole number from 1 to 4,096"),
        (["--direct_num_workers=-2"], "direct_num_workers=-2"),
        (["--direct_num_workers=many"], "direct_num_workers=many"),
        (["--direct_running_mode=fast"], "direct_running_mode=fast: expected in_memory, multi_threading"),
        (["--direct_num_worker=2"], "did you mean --beam.direct_num_workers"),
        (["--nothing_like_it=2"], "--beam.nothing_like_it is no option of Beam's"),
        (["--job_server_timeout=long"], "job_server_timeout.*: invalid int value: 'long'"),
    ],
)
def test_mistakes_are_told(words, message, capfd):
    with pytest.raises(ValueError, match=message):
        options(words)
    assert capfd.readouterr().err == ""

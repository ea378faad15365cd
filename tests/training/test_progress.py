import sys

from paligax.training import progress


def test_lines_are_few(capsys):
    lines = progress.start(100, 0, is_first_process=True)
    assert isinstance(lines, progress.Lines)
    for step in range(1, 101):
        lines.update(step, 2.5, 1234.56)
    lines.close()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2, "the first and the last"
    assert printed[0].startswith("step 1/100  loss 2.5000  1,234.6 examples/s  ")
    assert printed[1].endswith("0s left")


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    bar = progress.start(10, 4, is_first_process=True)
    assert isinstance(bar, progress.Bar)
    bar.say("compiled [in] 3 s")
    bar.update(10, 1.25, 50.0)
    bar.close()
    printed = capsys.readouterr().out
    assert "compiled [in] 3 s" in printed and "10/10" in printed and "loss 1.2500  50.0 examples/s" in printed


def test_other_processes_are_silent(capsys):
    silent = progress.start(10, 0, is_first_process=False)
    silent.say("x")
    silent.update(1, 1.0, 1.0)
    silent.close()
    assert capsys.readouterr().out == ""


def test_durations():
    texts = [progress.duration(seconds) for seconds in (0, 59.6, 200, 3900, 183600)]
    assert texts == ["0s", "1m 00s", "3m 20s", "1h 05m", "2d 03h"]

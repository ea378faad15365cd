from paligax.training import processes


def test_one_process_agrees_with_itself():
    assert processes.agree(-2) == -2
    assert processes.add_up({"vqa/empty": 3}) == {"vqa/empty": 3}

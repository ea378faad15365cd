from paligax.training.evaluation import NoEvaluator


def test_no_evaluator_is_never_due():
    assert NoEvaluator().every_steps == 0 and NoEvaluator().evaluate(1, None, {}) == {}

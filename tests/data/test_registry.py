import dataclasses
import sys
import types

import pytest

from paligax.data import registry


def test_a_mixtures_tasks_and_rates(data):
    assert registry.rates(data) == {"toy_caption": 100.0, "toy_question": 50.0, "toy_text": 30.0}
    assert [task.name for task in registry.tasks(data)] == ["toy_caption", "toy_question", "toy_text"]
    assert data.tasks() == ["toy_caption", "toy_question", "toy_text"]


def test_a_run_may_set_its_own_rates(data):
    own = dataclasses.replace(data, rates={"toy_text": 1, "toy_caption": 2})
    assert registry.rates(own) == {"toy_caption": 2.0, "toy_text": 1.0}
    with pytest.raises(ValueError, match="'toy_texts'.*did you mean 'toy_text'"):
        registry.rates(dataclasses.replace(data, rates={"toy_texts": 1}))


def test_a_single_task_is_a_mixture_of_one(data):
    assert registry.rates(dataclasses.replace(data, mixture_or_task="toy_text")) == {"toy_text": 1.0}


def test_registering_again_replaces(data):
    registry.register(data)
    first = registry.task(data, "toy_text")
    assert registry.task(data, "toy_text") is not first


def test_unknown_names_are_told_with_the_nearest(data):
    with pytest.raises(ValueError, match="No mixture or task 'toi'; did you mean 'toy'"):
        registry.rates(dataclasses.replace(data, mixture_or_task="toi"))
    with pytest.raises(ValueError, match="No task 'toy_txt'; did you mean 'toy_text'"):
        registry.task(data, "toy_txt")


def test_bad_task_modules_are_told(data, monkeypatch):
    with pytest.raises(ImportError, match="'no_such_module'"):
        registry.register(dataclasses.replace(data, task_modules=("no_such_module.tasks",)))
    monkeypatch.setitem(sys.modules, "empty_module", types.ModuleType("empty_module"))
    with pytest.raises(AttributeError, match="'empty_module' has no register"):
        registry.register(dataclasses.replace(data, task_modules=("empty_module",)))

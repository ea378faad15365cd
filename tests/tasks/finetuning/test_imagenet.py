import pytest

from tasks.finetuning.imagenet import imagenet

CLASSES, NAMES = ("n01440764", "n01443537"), ("tench", "goldfish")


def test_the_class_and_its_name(data, run, make):
    task = make(imagenet, data, classes=CLASSES, class_names=NAMES)
    examples = run(task, data, {"labels": ["n01443537"]})
    assert examples.pairs == [("Generate the alt_text in en at 0: <extra_id_0>", "goldfish")]
    assert examples.host()[0]["class"] == 1 and examples.target_values(task) == [["goldfish"]]
    assert run(task, data, {"labels": ["n09193705"]}).skips == ["class is not listed"]
    assert run(task, data, {}).skips == ["class is not listed"]
    assert run(make(imagenet, data, classes=CLASSES), data, {"labels": ["n01440764"]}).targets == ["n01440764"]


def test_names_are_as_many_as_classes(data):
    with pytest.raises(ValueError, match="has 2 classes and 1 class names"):
        imagenet("x", data, classes=CLASSES, class_names=NAMES[:1])

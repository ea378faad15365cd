"""Gin: names, mistakes, friendly strings, and the text that reproduces a run."""

import inspect
import pathlib
import textwrap

import pytest

from paligax import configuration
from paligax.configuration import ConfigurationError, annotations, names, reading, signatures

TINY = """
MODEL = @PaLI()
PaLI.vision = @ViT()
PaLI.language = @MT5()
ViT.width = 16
ViT.depth = 2
ViT.mlp_dim = 32
ViT.num_heads = 2
ViT.patch_size = 8
MT5.width = 16
MT5.mlp_dim = 32
MT5.encoder_depth = 1
MT5.decoder_depth = 2
MT5.num_heads = 2
MT5.head_dim = 8
MT5.vocab_size = %VOCAB_SIZE
VOCAB_SIZE = 100
Data.vocabulary = %MODEL
"""


def mistakes(*args, **kwargs) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        configuration.parse(*args, **kwargs)
    return error.value.mistakes


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        path = pathlib.Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    return write


@pytest.mark.parametrize("name", names.CONFIGURABLES)
def test_signature_read_from_source_is_the_real_one(name):
    target = names.CONFIGURABLES[name]
    read = signatures.signature(target).parameters
    real = dict(inspect.signature(names.resolve(target)).parameters)
    if name.endswith(".variant"):  # overrides are the class's own parameters
        real.pop("overrides")
        of_class = inspect.signature(names.resolve(target.removesuffix(".variant"))).parameters
        real |= {k: p.replace(default="of the variant") for k, p in of_class.items() if k not in real}
    if name in ("PaLI", "Classifier", "ViT", "MT5"):
        real.pop("name")
    real.pop("parent", None)  # Linen's own
    assert list(read) == list(real)
    for parameter in read.values():
        default = real[parameter.name].default
        if isinstance(parameter.default, signatures.Default):
            assert default is not inspect.Parameter.empty
        else:
            assert parameter.default == default


def test_linen_modules_are_built_with_their_submodules():
    config = configuration.parse([], text=TINY, roots=["PaLI"])
    module = config.build("PaLI")
    assert type(module).__name__ == "PaLI"
    assert (module.vision.width, module.language.decoder_depth, module.language.vocab_size) == (16, 2, 100)
    assert module == config.build("PaLI")


def test_variants_take_overrides():
    towers = ["PaLI.vision=@ViT.variant()", "PaLI.language=@MT5.variant()"]
    words = ["ViT.variant.name=G/14", "MT5.variant.name=xxl", "ViT.variant.dtype=bfloat16"]
    module = configuration.parse([], [*towers, *words], ["PaLI"]).build("PaLI")
    assert (module.vision.width, module.vision.patch_size, module.vision.dtype) == (1664, 14, "bfloat16")
    assert module.language.width == 4096


@pytest.mark.parametrize(
    "text, value",
    [
        ("runs/x", "runs/x"),
        ("./data/webli-10b", "./data/webli-10b"),
        ("/data/a b.gin", "/data/a b.gin"),
        ("tasks.pretrain", "tasks.pretrain"),
        ("10k", "10k"),
        ("2024-01-01", "2024-01-01"),
        ("", ""),
        ("gs://bucket/x", "gs://bucket/x"),
        ("it's", "it's"),
        ("1000", 1000),
        ("-1", -1),
        ("1e-3", 1e-3),
        ("True", True),
        ("None", None),
        ("'1000'", "1000"),
        ("(1, 'a')", (1, "a")),
        ("{'a': 0.5}", {"a": 0.5}),
    ],
)
def test_a_word_that_is_no_gin_literal_is_a_string(text, value):
    assert reading.Reader().value(text, "here") == value


def test_references_and_macros_on_the_command_line_stay_gin():
    names.register()
    reader = reading.Reader()
    assert repr(reader.value("@PaLI()", "here")) == "@PaLI()"
    assert repr(reader.value("%TRAIN_STEPS", "here")) == "%TRAIN_STEPS"
    assert reader.value("(1, 2", "here") is reading.Unknown
    assert "not a gin value" in reader.mistakes[0]


def test_all_mistakes_are_named_at_once_with_place_and_nearest_name(write):
    file = write(
        "x.gin",
        """
        ViT.widht = 16
        Vit.depth = 2
        PaLI.vision = @ViTT()
        PaLI.language = @MT5
        MT5.width = '16'
        MT5.head_dim = 8.0
        MT5.num_heads = %NUM_HEDS
        NUM_HEADS = 4
        towers/MT5.width = 3
        PaLI.language = @tower/MT5()
        """,
    )
    found = mistakes([file, "experiments/quickstart_bas.gin"], ["TRAIN_STEP=3", "ViT.remat=(1", "ViT.dtype=3", "x"])
    expected = [
        ("x.gin:2", "ViT has no parameter 'widht'. Nearest: 'width'"),
        ("x.gin:3", "'Vit' is no name", "Nearest: 'ViT'"),
        ("x.gin:4", "@ViTT is not known. Nearest: 'ViT'"),
        ("x.gin:6", "MT5.width must be int, got '16' (str)"),
        ("x.gin:7", "MT5.head_dim must be int, got 8.0 (float). Write 8."),
        ("%NUM_HEDS has no value", "Nearest: 'NUM_HEADS'"),
        ("x.gin:9", "nothing uses the macro NUM_HEADS. Nearest: 'NUM_HEDS'"),
        ("x.gin:10", "no @towers/… uses the scope of towers/MT5.width. Nearest: 'tower'"),
        ("quickstart_bas.gin", "Nearest: 'experiments/quickstart_base.gin'"),
        ("--gin.TRAIN_STEP=3", "nothing uses the macro TRAIN_STEP. Nearest: 'TRAIN_STEPS'"),
        ("--gin.ViT.remat=(1", "not a gin value"),
        ("ViT.dtype must be str, got 3 (int)",),
        ("--gin.x: expected --gin.NAME=value",),
    ]
    for parts in expected:
        assert any(all(part in mistake for part in parts) for mistake in found), (parts, found)
    assert len(found) == len(expected), found


def test_syntax_errors_say_where_and_hint_at_quotes(write):
    (found,) = mistakes([write("a.gin", "ViT.width = 16\nViT.dtype = bfloat16\n")])
    assert "a.gin:2" in found and "'bfloat16'" in found and "quoted" in found
    (found,) = mistakes([write("b.gin", "Data.feature_lengths = {'image': 64,\n")])
    assert "b.gin:" in found


def test_missing_values_are_named_with_what_needs_them():
    text = TINY.replace("MT5.width = 16\nMT5.mlp_dim = 32\n", "")
    text = text.replace("VOCAB_SIZE = 100", "VOCAB_SIZE = %gin.REQUIRED")
    found = mistakes([], text=text, roots=["PaLI"])
    assert any("MT5 needs width, mlp_dim" in m and "PaLI.language" in m for m in found), found
    assert any("VOCAB_SIZE has no value, and MT5.vocab_size" in m for m in found), found
    assert len(found) == 2


def test_a_misspelt_name_is_not_also_reported_as_missing():
    found = mistakes([], text=TINY.replace("MT5.width", "MT5.widht"), roots=["PaLI"])
    assert len(found) == 1 and "Nearest: 'width'" in found[0]


def test_a_macro_of_the_wrong_type_is_named_where_it_is_set():
    (found,) = mistakes([], ["VOCAB_SIZE=10k"], text=TINY, roots=["PaLI"])
    assert "--gin.VOCAB_SIZE=10k" in found and "MT5.vocab_size" in found and "must be int, got '10k' (str)" in found


def test_what_is_set_on_the_command_line_and_used_by_nothing_is_a_mistake(write):
    file = write("m.gin", "TRAIN_STEPS = 10\nViT.width = 4\n")
    configuration.parse([file])  # a well-known macro in a file is fine: another kind of run uses it
    (found,) = mistakes([file], ["TRAIN_STEPS=20"])
    assert "nothing uses the macro TRAIN_STEPS" in found


def test_files_are_found_here_beside_the_including_file_and_among_the_packaged(write, tmp_path):
    write("deep/inner.gin", "ViT.width = 5\n")
    outer = write("deep/outer.gin", "include 'inner.gin'\nViT.depth = 6\n")
    config = configuration.parse([outer], ["Classifier.vision=@ViT()"], [])
    assert config.bound == {"ViT", "Classifier"}
    assert reading.find("models/pali_mini.gin") == reading.find("gin_configs/models/pali_mini.gin") is not None
    loop = write("loop.gin", "include 'loop.gin'\n")
    assert "includes itself" in mistakes([loop])[0]


def test_the_text_reproduces_the_run():
    words = ["VOCAB_SIZE=200", "deep/ViT.depth=7", "Classifier.vision=@deep/ViT()", "Classifier.num_classes=3"]
    first = configuration.parse([], words, ["Classifier", "PaLI"], text=TINY)
    built = first.build("Classifier"), first.build("PaLI")
    assert "VOCAB_SIZE = 200" in first.text
    assert "MT5.max_distance = 128" in first.text, "defaults are spelt out: a changed default changes no old run"
    again = configuration.parse([], (), ["Classifier", "PaLI"], text=first.text)
    assert again.text == first.text
    assert (again.build("Classifier"), again.build("PaLI")) == built
    assert built[0].vision.depth == 7 and built[1].vision.depth == 2


@pytest.mark.parametrize("stage", ["classify", "base", "high_res"])
def test_the_text_reproduces_a_stage_that_leaves_scopes_of_its_kind_of_run_out(stage):
    first = configuration.parse([f"experiments/quickstart_{stage}.gin"], roots=["Trainer", "Evaluator"])
    assert "head/Trained" not in first.text, "runs/classify.gin binds it, and this experiment has no @head/Trained()"
    again = configuration.parse([], text=first.text, roots=["Trainer", "Evaluator"])
    assert again.text == first.text


def test_long_and_nested_values_survive_the_text():
    value = {f"task_{i}": (("x" * 30, "it's a 'quoted' word"), [0.25 * i, None, True]) for i in range(9)}
    text = "Data.mixture_or_task = 'm'\nData.batch_size = 4\nData.feature_lengths = {'image': 8}\n"
    config = configuration.parse([], text=f"{text}Data.options = {value!r}", roots=["Data"])
    again = configuration.parse([], text=config.text, roots=["Data"])
    assert again.build("Data").options == value


def test_required_asks_in_any_order_of_includes(write):
    run = write("run.gin", "VOCAB_SIZE = %gin.REQUIRED\nMT5.vocab_size = %VOCAB_SIZE\n")
    size = write("size.gin", TINY)
    for files in ([run, size], [size, run]):
        assert configuration.parse(files, roots=["PaLI"]).build("PaLI").language.vocab_size == 100


def test_model_dir():
    assert configuration.parse([], model_dir="runs/x").model_dir == "runs/x"
    assert configuration.parse([], text="MODEL_DIR = 'runs/y'").model_dir == "runs/y"
    assert configuration.parse([], text="MODEL_DIR = 'runs/y'", model_dir="runs/x").model_dir == "runs/x"


def test_modules_of_a_user_can_be_imported_in_a_gin_file(write, tmp_path, monkeypatch):
    write("my_schedules.py", "import gin\n\n@gin.configurable\ndef my_rate(peak, slope=2):\n    return peak * slope\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = "import my_schedules\nAdafactor.learning_rate = @my_rate()\nmy_rate.peak = 3\n"
    config = configuration.parse([], text=text, roots=["Adafactor"])
    assert config.build("Adafactor").learning_rate == 6
    assert configuration.parse([], text=config.text, roots=["Adafactor"]).text == config.text
    assert "Nearest: 'peak'" in mistakes([], text=text.replace(".peak", ".paek"), roots=["Adafactor"])[0]


@pytest.mark.parametrize(
    "annotation, good, bad",
    [
        ("int", [1], [True, 1.0, "1", None]),
        ("float", [1, 1.5], [True, "1"]),
        ("bool", [True], [1, "true"]),
        ("str | None", ["a", None], [1]),
        ("tuple[str, ...]", [("a",), [], ["a", "b"]], ["a", (1,)]),
        ("tuple[int, str]", [(1, "a")], [(1,), ("a", 1)]),
        ("Sequence[float]", [(1, 2.0)], [1.0, "ab"]),
        ("Mapping[str, int]", [{"a": 1}], [{"a": "b"}, ()]),
        ("Literal['a', 'b']", ["a"], ["c"]),
        ("Any", [1, "a"], []),
        ("SomethingElse", [1, "a"], []),
        ("Schedule", [], [1e-3, "cosine"]),
        ("ViT", [], [16]),
    ],
)
def test_annotations(annotation, good, bad):
    assert not any(annotations.mismatch(annotation, value) for value in good)
    assert all(annotations.mismatch(annotation, value) for value in bad)

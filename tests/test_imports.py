"""Who may import what, and what starting paligax may import."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted([*ROOT.glob("paligax/**/*.py"), *ROOT.glob("tasks/**/*.py")])

# Heavy libraries → the only places that may import them, at the top or inside functions.
OWNERS = {
    "tensorflow": ("paligax/data", "paligax/inference/saved_model", "tasks"),
    "seqio": ("paligax/data", "tasks"),
    "flax.linen": ("paligax/models",),
    "gin": ("paligax/configuration",),
    "orbax": ("paligax/training",),
}
# Imported on use, never at the top of a module: they would slow down every start.
LATE = ("matplotlib", "orbax", "rich", "tensorboardX", "tensorflow_datasets")
# room → rooms of the library it may import at the top of its modules.
ROOMS = {
    "models": set(),
    "metrics": set(),
    "data": {"batch", "vocabulary", "image"},
    "training": {"models", "batch", "vocabulary", "interop"},
    "inference": {"models", "metrics", "batch", "vocabulary", "image", "interop", "training"},
    "interop": {"models"},
    "reports": {"inference", "metrics"},
    "configuration": set(),
}


@functools.cache
def imports(path: pathlib.Path, everywhere: bool) -> frozenset[str]:
    """Full names of what a module imports: everywhere in it, or at its top (not what is for type checkers)."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def is_part(name: str, of: str) -> bool:
    return name == of or name.startswith(of + ".")


@pytest.mark.parametrize("library", OWNERS)
def test_heavy_libraries_stay_in_their_rooms(library):
    strangers = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if any(is_part(name, library) for name in imports(path, everywhere=True))
        and not path.relative_to(ROOT).as_posix().startswith(OWNERS[library])
    ]
    assert not strangers


@pytest.mark.parametrize("library", LATE)
def test_slow_libraries_are_imported_on_use(library):
    early = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.relative_to(ROOT).parts[0] == "paligax"
        and any(is_part(name, library) for name in imports(path, everywhere=False))
    ]
    assert not early


def test_the_library_knows_nothing_of_tasks():
    for path in ROOT.glob("paligax/**/*.py"):
        assert not any(is_part(name, "tasks") for name in imports(path, everywhere=True)), path


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    for path in ROOT.glob(f"paligax/{room}/**/*.py"):
        names = {name.split(".")[1] for name in imports(path, everywhere=False) if name.startswith("paligax.")}
        strange = names - ROOMS[room] - {room}
        assert not strange, f"{path.relative_to(ROOT)} imports {strange}"


def test_tasks_import_data_and_metrics_alone():
    for path in ROOT.glob("tasks/*.py"):
        names = {name.split(".")[1] for name in imports(path, everywhere=False) if name.startswith("paligax.")}
        assert names <= {"data", "metrics"}, path


@pytest.mark.parametrize(
    "code, absent",
    [
        ("import paligax", ("jax", "tensorflow", "numpy", "gin")),
        ("from paligax import cli; cli.main([])", ("jax", "flax", "tensorflow", "seqio", "numpy")),
        (
            "from paligax import configuration as c; c.parse(['experiments/quickstart_high_res.gin'])",
            ("jax", "flax", "tensorflow", "seqio", "numpy"),
        ),
        (
            "import paligax.batch, paligax.data, paligax.inference.loading, paligax.reports, paligax.training",
            ("tensorflow", "seqio", "orbax", "gin"),
        ),
    ],
)
def test_what_starting_imports(code, absent):
    """In a fresh interpreter; jax looks at TensorFlow's version where it is installed, without importing it."""
    check = f"{code}\nimport sys\nprint([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr

"""Which package may import which, and what a first import loads."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bp_torch"

MAY_IMPORT = {
    "functional": set(),
    "nn": {"functional"},
    "models": {"functional", "nn"},
    "engine": {"functional"},
    "catalogue": {"functional", "sample"},
    "inspection": {"functional", "nn", "engine", "data", "gradients.differences"},
    "gradients": {"catalogue", "markdown", "sample", "threads"},
    "data": {"files", "threads"},
    "training": {
        "files",
        "nn",
        "models",
        "engine",
        "functional",
        "inspection",
        "data",
        "gradients",
        "catalogue",
    },
    "dashboard": {
        "files",
        "markdown",
        "training.logging",
        "gradients.Comparison",
        "inspection",
    },
    "commands": {"catalogue", "dashboard", "data", "functional", "gradients", "inspection", "models", "training"},
    "files": set(),
    "markdown": set(),
    "sample": set(),
    "threads": set(),
}
LIBRARIES = {
    "functional": {"torch"},
    "nn": {"torch"},
    "models": {"torch"},
    "engine": {"torch"},
    "catalogue": {"torch"},
    "inspection": {"torch", "matplotlib", "numpy", "rich"},
    "gradients": {"torch"},
    "data": {"torch", "torchvision"},
    "training": {"torch", "tqdm", "filelock", "safetensors"},
    "dashboard": {
        "torch",
        "tensorboard",
        "matplotlib",
        "numpy",
        "PIL",
        "google_crc32c",
        "safetensors",
        "werkzeug",
    },
    "commands": {"torch", "rich", "tyro"},
    "files": set(),
    "markdown": set(),
    "sample": {"torch"},
    "threads": {"torch"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Every module a file imports, at its top or within."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module else set()
    return names


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_table(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        assert imported(file) <= {"importlib.import_module", "types.ModuleType"}
        return
    here = room(file)
    for name in imported(file):
        top, _, inside = name.partition(".")
        if top == "bp_torch":
            allowed = {here, *MAY_IMPORT[here]}
            known = (
                not inside
                or inside.startswith("__")
                or any(inside == room or inside.startswith(f"{room}.") for room in allowed)
            )
            assert known, f"{file}: {here} must not import {name}"
        elif top not in sys.stdlib_module_names:
            assert top in LIBRARIES[here], f"{file}: {here} must not import {name}"


def test_every_folder_stands_in_the_table() -> None:
    assert {room(file) for file in FILES} - {"__init__"} == set(MAY_IMPORT)


def test_only_mnist_imports_torchvision() -> None:
    importing = [f for f in FILES if any(name.startswith("torchvision") for name in imported(f))]
    assert importing == [PACKAGE / "data" / "mnist.py"]


def test_all_but_training_needs_torch_alone() -> None:
    extra = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [requirement.partition(">=")[0] for requirement in extra["dependencies"]] == ["torch"]
    others = set().union(*LIBRARIES.values()) - {"torch"}
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(others)!r}))
import torch
import bp_torch.data, bp_torch.engine, bp_torch.inspection, bp_torch.nn
from bp_torch.gradients import check_gradients
print(check_gradients(torch.square, [(torch.randn(3),)]).passed)
"""
    done = subprocess.run([sys.executable, "-Wignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("module", ["bp_torch", "bp_torch.dashboard", "bp_torch.dashboard.tags"])
def test_first_imports_bring_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plugin_brings_tensorboard_no_torch() -> None:
    loader = "bp_torch.dashboard.plugin.loader"
    code = f"import sys, {loader}; sys.exit({loader!r} not in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_subpackages_load_on_first_use() -> None:
    code = "import bp_torch; bp_torch.functional.linear; bp_torch.nn.mlp; assert 'nn' in dir(bp_torch)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    import bp_torch

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bp_torch.nothing

"""What the README says is so."""

import re
import subprocess
import sys
from pathlib import Path

from bp_torch.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_offline_and_learns(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 25
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    difference, accuracy = (float(line.split()[-1]) for line in done.stdout.splitlines())
    assert difference < 1e-6
    assert accuracy > 0.9
    assert not list(tmp_path.iterdir())


def test_the_table_of_functions_is_the_catalogue() -> None:
    (table,) = re.findall(r"kept true by a test -->\n(.*?)\n<!--", README, re.DOTALL)
    rows = [f"| `{entry.name}` | {entry.backward} |".replace("|d|", r"\|d\|") for entry in CATALOGUE.values()]
    assert table.splitlines() == ["| function | backward |", "|---|---|", *rows]


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(targets) > 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets == {"help", "setup", "train", "test", "check", "gradients", "benchmark", "dashboard"}
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= targets

"""The structure of the package: imports, public names, and what no module may do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import soupmerge as sm

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "soupmerge"
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {
    "errors",
    "choices",
    "label_spaces",
    "corruption_refs",
    "known_sets",
    "types",
    "numbers",
    "references",
    "run",
    "pareto",
    "schedule",
    "binding",
    "asking",
    "sketch",
    "storage",
    "wrappers",
}
FLOORS = [
    GROUND,
    {"weights", "robustness"},
    {"sources", "training", "soups"},
    {"figures", "exports", "cli"},
]
"""From the ground up: a room may import rooms of lower floors, and itself."""

ALLOWED_BESIDES = {("cli", "figures"), ("cli", "exports")}
"""Imports between rooms of one floor: the command line may import the other two."""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """Return the rooms of soupmerge that *tree* imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("soupmerge"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "soupmerge" and len(parts) > 1}
    return found


def unlawful(home: str, found: set[str]) -> set[str]:
    floor = next(i for i, rooms in enumerate(FLOORS) if home in rooms)
    below = set().union(*FLOORS[:floor])
    peers = {there for here, there in ALLOWED_BESIDES if here == home}
    lawful = below | {home} | peers | (GROUND if home in GROUND else set())
    return found - lawful


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_lower_floors_only(path: Path) -> None:
    home = room(path)
    if home in ("__init__", "__main__"):
        return
    assert not unlawful(home, imports(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    ("home", "line"),
    [
        ("weights", "from soupmerge.robustness import threats"),
        ("robustness", "import soupmerge.weights.files"),
        ("soups", "from soupmerge.training.augment import none"),
        ("storage", "from soupmerge.weights import files"),
        ("figures", "from soupmerge.cli import show"),
    ],
)
def test_the_import_law_can_fail(home: str, line: str) -> None:
    assert unlawful(home, imports(ast.parse(line)))


SOUPS = PACKAGE / "soups"


@pytest.mark.parametrize(
    "path", sorted(SOUPS.rglob("*.py")), ids=lambda p: str(p.relative_to(SOUPS))
)
def test_inner_rooms_of_soups_share_judging_only(path: Path) -> None:
    home = path.relative_to(SOUPS).parts[0]
    found = set(re.findall(r"soupmerge\.soups\.(\w+)\.\w+ import", path.read_text()))
    assert found <= ({home, "judge"} if home != "judge" else {"judge"})


def test_public_names_are_the_same_for_type_checkers_and_at_run_time() -> None:
    text = (PACKAGE / "__init__.py").read_text()
    typed = re.findall(r"from soupmerge\.([\w.]+) import (\w+) as (\w+)", text)
    assert {name: home for home, name, _ in typed} == sm._HOMES
    assert [name for _, name, _ in typed] == [alias for _, _, alias in typed]


def test_public_names_load_and_are_documented() -> None:
    documented = (ROOT / "docs" / "api.md").read_text()
    for name in sm.__all__:
        assert getattr(sm, name).__doc__, name
        assert f"`{name}" in documented, f"docs/api.md does not mention {name}"


def test_importing_soupmerge_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, soupmerge.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_unsafe(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "print"}
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True"
        if name == "np.load":
            assert keywords.get("allow_pickle") == "False"


def test_only_storage_writes() -> None:
    writers = re.compile(r"\.write_text\(|\.write_bytes\(|open\([^)]*[\"'][wax]b?[\"']|os\.replace")
    for path in FILES:
        if room(path) == "storage":
            continue
        for line in path.read_text().splitlines():
            assert not writers.search(line) or "commit." in line, f"{path}: {line}"


def test_ci_runs_the_readme_s_test_command() -> None:
    assert "grep -m1 'bin/pytest' README.md" in (ROOT / ".ci" / "run").read_text()
    command = re.search(r"^.*bin/pytest.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command is not None
    assert "venv" in command[0]
    assert "pip install" in command[0]

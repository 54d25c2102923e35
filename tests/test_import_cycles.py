"""Imports form no cycle: no file of the project imports itself by way of others."""

import ast
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGES = (
    "catrank",
    "catseg_d2",
    "groupvit_mixreorg",
    "mask2former_rankseg",
    "per_pixel",
    "segcore",
    "d2lite/detectron2",
)
SCRIPTS = ("bench", "datasets", "demo", "tools")  # which import what lies beside them by name


def imported_names(path: Path) -> Iterator[str]:
    """Yield the names that a file imports, in functions too: "from a import b" as "a.b". What only
    a type checker reads is left out: it is never executed."""
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            dot = "" if start.endswith(".") else "."
            yield from (f"{start}{dot}{alias.name}" for alias in node.names)


def find_module(name: str, importer: Path, roots: Sequence[Path]) -> Path | None:
    """Return the file that a name of :func:`imported_names` stands for; None of other projects."""
    level = len(name) - len(name.lstrip("."))
    if level:
        roots = [importer.parents[level - 1]]
    parts = name[level:].split(".")
    for end in (len(parts), len(parts) - 1):  # the last part may be a name in the module
        for root in roots if end else ():
            module = root.joinpath(*parts[:end])
            for path in (module.with_suffix(".py"), module / "__init__.py"):
                if path.is_file():
                    return path
    return None


def import_graph(repository: Path) -> dict[Path, set[Path]]:
    """Return every file of the project with the files that it imports."""
    graph = {}
    for folder in (*PACKAGES, *SCRIPTS):
        beside = [repository / folder] if folder in SCRIPTS else []
        roots = [*beside, repository, repository / "d2lite"]
        for path in (repository / folder).rglob("*.py"):
            found = {find_module(name, path, roots) for name in imported_names(path)}
            graph[path] = found - {None, path}
    return graph


def test_a_cycle_is_found(tmp_path: Path) -> None:
    for name, text in {
        "segcore/__init__.py": "",
        "segcore/a.py": "from . import b",
        "segcore/b.py": "try:\n    from segcore.c import name\nexcept ImportError:\n    pass",
        "segcore/c.py": "def f():\n    import segcore.a",
        "bench/one.py": "import two",
        "segcore/d.py": "if TYPE_CHECKING:\n    import segcore.a",
        "bench/two.py": "import segcore",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    with pytest.raises(CycleError) as found:
        TopologicalSorter(import_graph(tmp_path)).prepare()
    assert {path.stem for path in found.value.args[1]} == {"a", "b", "c"}
    assert import_graph(tmp_path)[tmp_path / "segcore/d.py"] == set()
    assert import_graph(tmp_path)[tmp_path / "bench/one.py"] == {tmp_path / "bench/two.py"}


def test_there_is_none(repository: Path) -> None:
    graph = import_graph(repository)
    assert len(graph) > 300 and sum(map(len, graph.values())) > 1000
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(str(path.relative_to(repository)) for path in error.args[1]))

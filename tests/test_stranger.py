"""How much a stranger reads, from README on, before the place is found at which to understand or change something.

The stranger opens README, reads from its top to the first link that promises what is looked for, opens the linked file
and reads it from its top to the line in question. Where a file does not have that line, it is read to its end, and then
the finelib modules that it imports are read in the same way, in the order of the import lines. A question with two
answers is two such walks; what both read counts once. Every line counts: code, comments, docstrings, blank lines,
README's own.
"""

import ast
import re
from collections import deque
from pathlib import Path

import pytest

from finelib.paper import ablations
from finelib.runs.options import Options

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((finelib/[\w/]+\.py)\)")
MOST_FILES, MOST_LINES = 3, 400


def link(readme, promise):
    """Number of README's first line with a link to a module after the words of ``promise``; the module's path."""
    at = readme.index(promise)
    found = LINK.search(readme, at)
    return readme.count("\n", 0, found.end()) + 1, found[1]


def imports(source):
    """Paths of the finelib modules that a module imports, in the order of its lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "finelib":
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [path for name in names if (ROOT / (path := name.replace(".", "/") + ".py")).is_file()]
    return found


def read_until(promise, line_of):
    """Path -> lines read. ``line_of(path, source)`` is the number of the line that is looked for, None elsewhere."""
    readme = (ROOT / "README.md").read_text()
    lines, first = link(readme, promise)
    read, waiting = {"README.md": lines}, deque([first])
    while waiting:
        path = waiting.popleft()
        if path in read:
            continue
        source = (ROOT / path).read_text()
        if line := line_of(path, source):
            return read | {path: line}
        read[path] = source.count("\n")
        waiting.extend(imports(source))
    raise AssertionError(f"not found in {', '.join(read)}")


def matching(pattern):
    def line_of(path, source):
        found = re.search(pattern, source, re.MULTILINE)
        return found and source.count("\n", 0, found.start()) + 1

    return line_of


def end_of(name):
    """Last line of the statement that gives ``name`` its value: to add an item, all of it is read."""

    def line_of(path, source):
        for node in ast.parse(source).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.end_lineno
        return None

    return line_of


BEGIN, ROW, SUBCLASS = "Where to begin reading", "A new row of Table 6", "a subclass in"  # promises in README
QUESTIONS = {
    "the negatives of Eq. 10": {BEGIN: matching(r"^ +I_str = .*same\) for .*# Eq\. 10$")},
    "the line that updates the queue": {BEGIN: matching(r"^ +queue\[.*\]\.append\(")},
    "a new row of Table 6": {ROW: end_of("COMPONENT_ROWS")},
    "a new row of Table 6 with code of its own": {ROW: end_of("COMPONENT_ROWS"), SUBCLASS: end_of("VARIANTS")},
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_stranger_finds_it_in_three_files_and_400_lines(question):
    read = {}
    for promise, line_of in QUESTIONS[question].items():
        for path, lines in read_until(promise, line_of).items():
            read[path] = max(lines, read.get(path, 0))
    print(f"{question}: {sum(read.values())} lines in {len(read)} files")
    print("".join(f"  {path}, lines 1 to {lines}\n" for path, lines in read.items()))
    assert len(read) <= MOST_FILES and sum(read.values()) <= MOST_LINES, read


def test_imports_are_followed_where_a_file_does_not_have_the_line():
    read = read_until("Where to begin reading", matching("Where to begin|^EXPERTS"))
    assert list(read) == ["README.md", "finelib/plain.py"]
    assert "finelib/baselines/variants.py" in imports((ROOT / "finelib/paper/ablations.py").read_text())
    with pytest.raises(AssertionError, match="not found in README.md, finelib/plain.py$"):
        read_until("Where to begin reading", matching("no such line"))


def test_one_line_in_that_list_is_all_that_a_new_row_needs(monkeypatch):
    row = ablations.Variant("half the queries", {"queries": 2})
    monkeypatch.setattr(ablations, "COMPONENT_ROWS", [*ablations.COMPONENT_ROWS, row])
    specs = ablations.blocks(6, Options(preset="smoke"))[0].specs((0,))
    assert specs["half the queries"][0].model_config.queries == 2

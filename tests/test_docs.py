"""The documentation's promises: its Python runs, its commands have the options it names, every public name is there."""

import importlib.util
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import tyro

import pretrain as pt
from benchmarks import __main__ as command_line

pytestmark = [pytest.mark.guide, pytest.mark.usefixtures("quick_compilation")]

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def checked(language: str) -> list[Any]:
    """The pages that have such blocks."""
    found = [page for page in PAGES if blocks(page, language)]
    return [pytest.param(page, id=_name(page)) for page in found]


def _name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("page", checked("python"))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order, in one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "docs"}
    with matplotlib.rc_context():
        for block in blocks(page, "python"):
            exec(compile(block, _name(page), "exec", dont_inherit=True), namespace)


OPTIONS = {
    "list": command_line.List,
    "render": command_line.Render,
    "report": command_line.Report,
    "speed": command_line.Speed,
    "fit": command_line.Fit,
    "predict": command_line.Predict,
}


def commands(page: Path) -> list[list[str]]:
    """What stands after ``python -m benchmarks`` in the shell blocks of a page."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [line.split("python -m benchmarks ", 1)[1] for line in text.splitlines() if "python -m benchmarks " in line]
    return [shlex.split(line.split("&&")[0], comments=True) for line in lines]


@pytest.mark.parametrize("page", checked("sh"))
def test_commands_have_these_options(page: Path) -> None:
    for name, *words in commands(page):
        assert name in OPTIONS or name in command_line.EXPERIMENTS, name
        options = tyro.cli(OPTIONS.get(name, command_line.Run), args=words)
        if isinstance(options, command_line.Run):
            experiment = command_line.EXPERIMENTS[name]
            assert options.scale in experiment.scales
            assert options.rows == "all" or [experiment.row(row) for row in options.rows.split(",")]


def test_every_public_name_is_in_the_api() -> None:
    """As ``::: path``; a function whose module has its name, as ``pretrain.data.digits.digits``."""
    shown = set(re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in PAGES), flags=re.MULTILINE))
    assert shown >= {"pretrain.memory", "pretrain.plots", "pretrain.sklearn", "pretrain.report"}
    for module in (pt, pt.data, pt.generative):
        for name in module.__all__:
            path = f"{module.__name__}.{name}"
            if importlib.util.find_spec(path) and not inspect.ismodule(getattr(module, name)):
                path = f"{path}.{name}"
            again = module is not pt and name in pt.__all__
            assert again or inspect.ismodule(getattr(module, name)) or path in shown, path


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), (page, link)

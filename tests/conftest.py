"""Shared by the test files."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares compilations goes to one process: a file's tests or, of the contract, those of one case."""
    for item in items:
        case = item.callspec.id if item.path.name == "test_contract.py" and hasattr(item, "callspec") else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{case}"))


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """Compiles without LLVM's expensive passes, for test files that compile much longer than they run."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)

"""Shared by the test files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jaxlib
import pytest

if jaxlib.__version__.startswith("0.10."):  # compile in a third of the time; another version may not know these flags
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

import jax  # after the flags

pytest.register_assert_rewrite(  # they assert, and should say what
    "contract_cases", "enumerated_dbm", "enumerated_dbn", "finite_differences"
)


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """Compiles without LLVM's expensive passes, for test files that compile much longer than they run."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled() -> Iterator[None]:
    """What one test file compiled is of no use to the next, and every garbage collection would walk through it."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision, for finite differences."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own is read: no variables, no caches, no prepared directories."""
    monkeypatch.delenv("PRETRAIN_DATA", raising=False)
    monkeypatch.setenv("PRETRAIN_CACHE", str(tmp_path / "default-cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no-prepared"))

"""Shared by the test files."""

from __future__ import annotations

import os
from collections.abc import Iterator

import jaxlib
import pytest

if jaxlib.__version__.startswith("0.10."):  # compile in a third of the time; another version may not know these flags
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

import jax  # after the flags


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

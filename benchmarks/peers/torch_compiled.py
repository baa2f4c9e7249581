"""The plain PyTorch loop with its update compiled by `torch.compile`, everything else alike."""

from __future__ import annotations

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  # an optional peer

from benchmarks.peers import Done, Setting, torch_loop

ALGORITHM = torch_loop.ALGORITHM.replace("eager, in place", "the update by torch.compile, in place")
TASKS = ("cd", "pcd", "denoising", "dbm")
PACKAGES = ("torch",)


def train(x: np.ndarray, setting: Setting, done: Done) -> None:
    """As `torch_loop.train`; compiling is not timed."""
    torch_loop.train(x, setting, done, torch.compile)

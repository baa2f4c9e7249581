"""How the rows of an experiment get partners: values of a declaration, called by the run."""

from __future__ import annotations

import dataclasses

import jax

from pretrain.data.frames import with_frames
from pretrain.data.neighbours import with_neighbours
from pretrain.types import Batch


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Each row's ``k`` nearest other rows, of which a run draws one whenever the row comes up."""

    k: int

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its neighbours' row numbers."""
        return with_neighbours(batch, self.k)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Each image's next frame: moved by ``shift`` pixels and ``rotation`` degrees in a random direction, once."""

    shape: tuple[int, int]
    shift: float = 1.0
    rotation: float = 5.0

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its next frames."""
        return with_frames(batch, self.shape, jax.random.key(0), self.shift, self.rotation)

"""Checkpoints: the whole state of every stage of a run, written whole or not at all, through orbax.

A folder holds one sub-folder a stage; in it the newest `pretrain.fit.Progress` of that stage. A run that finds its
folder goes on from there and ends with the same bits as if it had never stopped.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from pretrain.fit import Progress


def _plain(tree: Any) -> Any:
    """Everything as NumPy arrays, which are this process's own; typed random keys as their raw numbers."""

    def leaf(value: Any) -> Any:
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(value) if typed else value)

    return jax.tree.map(leaf, tree)


def _typed(plain: Any, like: Any) -> Any:
    def leaf(value: Any, template: Any) -> Any:
        value = jnp.asarray(np.asarray(value))  # not committed to a device: the program compiled before serves again
        typed = jnp.issubdtype(template.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(value) if typed else value

    return jax.tree.map(leaf, plain, like)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where; created when first written.
        every: seconds between saves within a stage. The end of a stage is always saved.
    """

    def __init__(self, folder: Path | str, every: float = 60.0) -> None:
        self.folder, self.every = Path(folder).resolve(), every
        self._saved = time.monotonic()

    def _manager(self, stage: str) -> ocp.CheckpointManager:
        alone = ocp.options.MultiprocessingOptions(  # of many processes each keeps its own
            primary_host=jax.process_index(),
            active_processes={jax.process_index()},
            barrier_sync_key_prefix=f"process-{jax.process_index()}",
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=alone,
        )
        (self.folder / stage).mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(self.folder / stage, options=options)

    def due(self) -> bool:
        """Whether ``every`` seconds have passed since the last save."""
        return time.monotonic() - self._saved >= self.every

    def save(self, stage: str, progress: Progress) -> None:
        """Writes the progress of a stage and then drops the one before it."""
        arrays = _plain({"fits": progress.fits, "best": progress.best})
        history = {name: values.tolist() for name, values in progress.history.items()}
        facts = {"epoch": progress.epoch, "seconds": progress.seconds, "history": history}
        with self._manager(stage) as manager:
            if progress.epoch not in manager.all_steps():
                args = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(facts))
                manager.save(progress.epoch, args=args)
        self._saved = time.monotonic()

    def restore(self, stage: str, begin: Callable[[], Progress]) -> Progress | None:
        """The newest progress of a stage, or None where there is none.

        Args:
            stage: its name.
            begin: makes a progress of the same structure and shapes; called only where there is something to restore.

        Raises:
            ValueError: if what is stored has another structure or other shapes.
        """
        if not (self.folder / stage).is_dir():
            return None
        with self._manager(stage) as manager:
            step = manager.latest_step()
            if step is None:
                return None
            like = begin()
            template = _plain({"fits": like.fits, "best": like.best})
            args = ocp.args.Composite(arrays=ocp.args.StandardRestore(template), facts=ocp.args.JsonRestore())
            try:
                stored = manager.restore(step, args=args)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.folder / stage} holds the checkpoint of a run of another structure or other shapes: remove "
                    "it to begin anew, or give the run another folder"
                ) from error
        arrays = _typed(stored["arrays"], {"fits": like.fits, "best": like.best})
        facts = stored["facts"]
        history = {name: np.asarray(values, np.float32) for name, values in facts["history"].items()}
        return Progress(facts["epoch"], arrays["fits"], arrays["best"], history, facts["seconds"])

    def clear(self) -> None:
        """Removes the folder: the run is over and its results are elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

"""Checkpoints: the whole state of every stage of a run, written whole or not at all.

A folder holds one sub-folder a stage; in it the newest `pretrain.fit.Progress` of that stage, one ``<epoch>.npz`` of
arrays and a line of JSON, read without pickle. A run that finds its folder goes on from there and ends with the same
bits as if it had never stopped; one of other data, seeds, learners or recipes is refused. Of many processes each keeps
its own.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pretrain.progress import Progress

FACTS = "facts"
"""The entry that is JSON: epoch, seconds, history, run."""


def fingerprint(*what: Any) -> str:
    """Names values: sixteen hexadecimal digits over their arrays (numbers as float32) and what else is printed of them.
    The code of functions and classes has no part in it.
    """
    leaves, structure = jax.tree.flatten(what)
    name = hashlib.sha256(_shown(structure))
    for leaf in leaves:
        array = np.asarray(_plain(leaf))
        array = array.astype(np.float32, copy=False) if np.issubdtype(array.dtype, np.floating) else array
        name.update(f"{array.dtype} {array.shape}".encode())
        name.update(
            _shown(leaf) if array.dtype == object else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        )
    return name.hexdigest()[:16]


def _shown(value: Any) -> bytes:
    """As printed, but for where functions lie in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value)).encode()


def _arrays(progress: Progress) -> dict[str, np.ndarray]:
    """Every array of a progress by its path; typed random keys as their raw numbers."""
    leaves, _ = jax.tree_util.tree_flatten_with_path({"fits": progress.fits, "best": progress.best})
    return {jax.tree_util.keystr(path): np.asarray(_plain(leaf)) for path, leaf in leaves}


def _plain(leaf: Any) -> Any:
    typed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if typed else leaf


def _typed(value: np.ndarray, like: Any) -> Any:
    array = jnp.asarray(value)  # not committed to a device: the program compiled before serves again
    return jax.random.wrap_key_data(array) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else array


def _entries(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The entries of a file of these names; of none, all."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files if name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}: remove it to begin the stage anew") from error


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where; created when first written.
        every: seconds between saves within a stage. The end of a stage is always saved.
        run: names the run; "": `pretrain.pretrain` and `pretrain.fine_tune` name it by the `fingerprint` of what they
            are given. Name it yourself where that is computed anew by every process and may differ in its last bits.
    """

    def __init__(self, folder: Path | str, every: float = 60.0, run: str = "") -> None:
        self.folder, self.every, self.run = Path(folder).resolve(), every, run
        self._saved = time.monotonic()

    def of(self, run: str) -> Checkpoints:
        """The same folder for a run of that name: what another wrote there is refused."""
        found = copy.copy(self)
        found.run = run
        return found

    def due(self) -> bool:
        """Whether ``every`` seconds have passed since the last save."""
        return time.monotonic() - self._saved >= self.every

    def save(self, stage: str, progress: Progress) -> None:
        """Writes the progress of a stage and then drops the one before it."""
        folder = self.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        history = {name: np.asarray(values, float).tolist() for name, values in progress.history.items()}
        facts = {"epoch": progress.epoch, "seconds": progress.seconds, "history": history, "run": self.run}
        whole = folder / f"{progress.epoch}.npz"
        part = whole.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **_arrays(progress), **{FACTS: np.array(json.dumps(facts))})  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, whole)
        for old in set(folder.iterdir()) - {whole}:
            old.unlink()
        self._saved = time.monotonic()

    def check(self, stage: str, epochs: int) -> None:
        """Checks that what is kept of a stage, if anything is, is this run's and of no more epochs.

        Raises:
            ValueError: otherwise.
        """
        found = self._newest(stage)
        facts = {} if found is None else self._facts(_entries(found, FACTS))
        if found is not None and facts.get("run", "") != self.run:
            raise ValueError(
                f"{self.folder / stage} holds the checkpoint of another run, of other data, seeds, learners, recipes "
                "or layers: remove it to begin anew, or give the run another folder"
            )
        if facts.get("epoch", 0) > epochs:
            raise ValueError(
                f"{self.folder / stage} holds a checkpoint of {facts['epoch']} epochs, of which {epochs} were asked "
                "for: remove it to begin anew, or give the run another folder"
            )

    def restore(self, stage: str, begin: Callable[[], Progress]) -> Progress | None:
        """The newest progress of a stage, or None where there is none.

        Args:
            stage: its name.
            begin: makes a progress of the same structure and shapes; called only where there is something to restore.

        Raises:
            ValueError: if what is stored has another structure or other shapes.
        """
        found = self._newest(stage)
        if found is None:
            return None
        like = begin()
        tree = {"fits": like.fits, "best": like.best}
        expected = {name: (array.shape, array.dtype) for name, array in _arrays(like).items()}
        stored = _entries(found)
        facts = self._facts(stored)
        if not facts or {name: (array.shape, array.dtype) for name, array in stored.items()} != expected:
            raise ValueError(
                f"{self.folder / stage} holds the checkpoint of a run of another structure or other shapes: remove it "
                "to begin anew, or give the run another folder"
            )
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        arrays = structure.unflatten(_typed(stored[jax.tree_util.keystr(path)], leaf) for path, leaf in leaves)
        history = {name: np.asarray(values, np.float32) for name, values in facts["history"].items()}
        return Progress(facts["epoch"], arrays["fits"], arrays["best"], history, facts["seconds"])

    def _newest(self, stage: str) -> Path | None:
        return max((self.folder / stage).glob("*.npz"), key=lambda path: int(path.stem), default=None)

    @staticmethod
    def _facts(entries: dict[str, np.ndarray]) -> dict[str, Any]:
        return json.loads(str(entries.pop(FACTS, "{}")))

    def clear(self) -> None:
        """Removes the folder: the run is over and its results are elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

"""What can be found wrong with a stack before its first layer is trained: shapes are passed up instead of numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import fit, population
from pretrain.checks import check_batch, check_run
from pretrain.learners.classifier import Classifier
from pretrain.stage import Stage, codes, trained_layer
from pretrain.types import Batch, Layer, Learner


def check_stages(stages: Sequence[Stage], train: Batch, valid: Batch | None, keys: Array) -> None:
    """Finds what is wrong with any stage before the first is trained: shapes are passed up instead of numbers.

    Raises:
        ValueError: with the stage.
    """
    if not stages:
        raise ValueError("a stack needs at least one stage; got none")
    for name, batch in {"train": train, "valid": valid}.items():
        if batch is not None:
            check_batch(batch, name)
    seen, below = jax.tree.map(jnp.asarray, train), None
    monitors = {} if valid is None else {"valid": jax.tree.map(jnp.asarray, valid)}
    for index, stage in enumerate(stages):
        try:
            if below is not None and stage.learner.unit_inputs and getattr(below, "activation", "sigmoid") != "sigmoid":
                raise ValueError(
                    f"the {below.activation} codes below may leave [0, 1], which {type(stage.learner).__name__} needs: "
                    "use sigmoid units below, or a squared-error autoencoder here"
                )
            check_run(
                stage.learner,
                seen,
                monitors,
                epochs=stage.epochs,
                batch_size=stage.batch_size,
                chunk=1,
                patience=stage.patience,
                values=index == 0,
            )
            learner = population.broadcast(stage.learner, keys.shape[0])
            begin = functools.partial(fit.begin, learner, stage.optimizer, batch_size=stage.batch_size)
            params = jax.eval_shape(lambda batch, keys, begin=begin: begin(batch, keys=keys).fits.params, seen, keys)
            below = jax.eval_shape(trained_layer, learner, params)
        except ValueError as error:
            raise ValueError(f"layer {index + 1} of {len(stages)}: {error}") from error
        above = lambda batch, below=below: jax.eval_shape(codes, below, batch)._replace(y=batch.y)  # noqa: E731
        seen, monitors = above(seen), {name: above(batch) for name, batch in monitors.items()}


def check_layers(layers: Sequence[Layer], learner: Learner, train: Batch, members: int) -> Classifier:
    """Checks that a population of layers can be fine-tuned on this data, and returns the learner.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(learner, Classifier):
        raise ValueError(f"layers can start a Classifier, not a {type(learner).__name__}: pass params instead")
    if learner.n_hidden:
        raise ValueError(
            f"the hidden layers are the pretrained ones; got n_hidden={learner.n_hidden} too: leave it out, or pass no "
            "layers"
        )
    found, n_in = layers[0].weights.shape[:2]  # type: ignore[attr-defined]
    if found != members:
        raise ValueError(
            f"the layers have {found} members but there are {members} seeds: give the seeds they were trained with"
        )
    if train.x.shape[-1] != n_in:
        raise ValueError(f"train.x has {train.x.shape[-1]} features but the layers take {n_in}")
    return learner

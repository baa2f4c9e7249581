"""What can be found wrong with a stack before its first layer is trained: shapes are passed up instead of numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from pretrain import fit, population, solution
from pretrain.checks import check_batch, check_data, check_examples, check_recipe, check_run
from pretrain.layers import side_by_side
from pretrain.learners.classifier import Classifier
from pretrain.network import Network, Unrolled, lower_layers
from pretrain.stage import Stage, codes, trained_layer
from pretrain.types import Batch, Layer, Learner, Solver


def check_stages(
    stages: Sequence[Stage], train: Batch, valid: Batch | None, keys: Array, layers: Sequence[Layer] = ()
) -> None:
    """Finds what is wrong with any stage before the first is trained: shapes are passed up instead of numbers. Of the
    lowest stages, whose ``layers`` are trained, only whether these take the rows.

    Raises:
        ValueError: with the stage.
    """
    if not stages:
        raise ValueError("a stack needs at least one stage; got none")
    for name, batch in {"train": train, "valid": valid}.items():
        if batch is not None:
            check_batch(batch, name, keys.shape[0])
    seen, below = jax.tree.map(jnp.asarray, train), None
    monitors = {} if valid is None else {"valid": jax.tree.map(jnp.asarray, valid)}
    for index, stage in enumerate(stages):
        try:
            if index < len(layers):
                below = jax.eval_shape(lambda layer: layer, layers[index])
                if index == 0:  # other rows than the stack was trained on, perhaps, and otherwise standardised
                    inputs = "unit" if getattr(stage.learner, "inputs", "real") == "unit" else "real"
                    for name, batch in {"train": train, **({} if valid is None else {"valid": valid})}.items():
                        check_examples(batch.x, f"{name}.x", inputs=inputs)
                        check_width(batch, layers[0], name)
                above = _passed(below)
                seen, monitors = above(seen), {name: above(batch) for name, batch in monitors.items()}
                continue
            check_stage(stage)
            _check_codes(below, stage.learner)
            learner = population.broadcast(stage.learner, keys.shape[0])
            if isinstance(stage.learner, Solver):
                check_data(stage.learner, seen, monitors, values=index == 0)
                if stage.optimizer is not None or stage.epochs:
                    raise ValueError(f"{type(stage.learner).__name__} is solved: give no optimizer and no epochs")
                params = jax.eval_shape(lambda batch, keys, of=learner: solution.solutions(of, batch, keys), seen, keys)
            else:
                assert stage.optimizer is not None
                check_recipe(stage.optimizer)
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
                begin = functools.partial(fit.begin, learner, stage.optimizer, batch_size=stage.batch_size)
                params = jax.eval_shape(lambda batch, keys, of=begin: of(batch, keys=keys).fits.params, seen, keys)
            below = jax.eval_shape(trained_layer, learner, params)
        except ValueError as error:
            raise ValueError(f"layer {index + 1} of {len(stages)}: {error}") from error
        above = _passed(below)
        seen, monitors = above(seen), {name: above(batch) for name, batch in monitors.items()}


def check_stage(stage: Any) -> None:
    """Raises: ValueError: of what is no `Stage`, or one that is trained and has no optimizer."""
    if not isinstance(stage, Stage):
        raise ValueError(f"a stage was asked for; got {type(stage).__name__}: Stage(learner, optimizer, epochs)")
    if stage.optimizer is None and not isinstance(stage.learner, Solver):
        raise ValueError(f"{type(stage.learner).__name__} is trained: give an optimizer and epochs")


def check_params(params: Any, members: int) -> None:
    """Raises: ValueError: if initial parameters are those of another number of members."""
    if isinstance(params, Network | Unrolled) and side_by_side(lower_layers(params)[0]) == 0:
        raise ValueError("params are one network's, without a member axis: give params=pretrain.stacked([network])")
    if (found := population.n_members(params)) != members:
        raise ValueError(f"params have {found} members but there are {members} seeds: give one seed for each")


def _passed(layer: Any) -> Callable[[Batch], Batch]:
    """A batch's shapes above a layer; its labels stay what they are."""
    return lambda batch: jax.eval_shape(codes, layer, batch)._replace(y=batch.y)


def check_width(batch: Batch, layer: Layer, name: str = "train") -> None:
    """Raises: ValueError: if the rows have not as many features as the layer takes, where it says."""
    if (n_in := getattr(layer, "n_in", None)) is not None and batch.x.shape[-1] != n_in:
        raise ValueError(f"{name}.x has {batch.x.shape[-1]} features but the layers take {n_in}")


def _check_codes(below: Any, learner: Learner | Solver) -> None:
    """Raises: ValueError: if the codes of the layer below cannot be what the learner takes; what cannot be told from
    their activation is found once they are there.
    """
    unknown = "linear" if getattr(below, "fixed", False) else None
    activation, name = getattr(below, "activation", unknown), type(learner).__name__
    if activation not in (None, "sigmoid") and learner.inputs == "unit":
        raise ValueError(
            f"the {activation} codes below may leave [0, 1], which {name} needs: "
            "use sigmoid units below, or a squared-error autoencoder here"
        )
    if activation in ("sigmoid", "relu") and learner.inputs == "standardised":
        raise ValueError(
            f"the {activation} codes below are not standardised, which {name} needs: put a Standardise() stage between"
        )


def check_layers(layers: Sequence[Layer], learner: Learner | Solver, train: Batch, members: int) -> Classifier:
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
    if side_by_side(layers[0]) == 0:
        raise ValueError(
            "these are the layers of one network, without a member axis: give pretrain.stacked([layers]), which serve "
            "all seeds, or as many copies as there are seeds"
        )
    found = population.n_members(layers)
    if found not in (1, members):
        raise ValueError(
            f"the layers have {found} members but there are {members} seeds: give the seeds they were trained with, or "
            "the layers of one member, which serve all seeds: pretrain.stacked([pretrain.member(layers, index)])"
        )
    check_width(train, layers[0])
    return learner

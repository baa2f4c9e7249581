"""Run by test_population in a process that has eight CPU devices; a failed assertion is its exit status."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import pretrain as pt
from pretrain import fit, population, solution
from pretrain.data import digits

TRAIN, VALID = (jax.tree.map(lambda leaf: leaf[:200], part) for part in digits()[:2])
LEARNERS = {
    "rbm": pt.RBM(12, sampler=pt.PCD(n_chains=20)),
    "denoising": pt.Autoencoder(12, corruption=pt.Masking(0.25)),
    "classifier": pt.Classifier(10, (12,), dropout=0.2),
}


def close(one: fit.Progress, other: fit.Progress, tolerance: float) -> None:
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)
    for name, values in one.history.items():
        found = other.history[name]
        stands = np.zeros(found.shape, bool)  # of a device whose members have all stopped, the last measures do
        stands[1:] = found[1:] == found[:-1]
        np.testing.assert_allclose(np.where(stands, values, found), values, rtol=1e-3, atol=1e-3, err_msg=name)
        assert np.isfinite(found).all()


def check(name: str, learner: object, mesh: Mesh, tolerance: float) -> None:
    patience = 1 if name == "classifier" else None
    options = {"epochs": 4, "batch_size": 20, "seeds": range(8), "monitors": {"valid": VALID}, "patience": patience}
    optimizer = pt.Momentum(np.linspace(0.02, 0.3, 8))
    alone = pt.run(learner, optimizer, TRAIN, **options)
    spread = pt.run(learner, optimizer, TRAIN, mesh=mesh, chunk=2, **options)
    leaf = jax.tree.leaves(spread.fits.params)[0]
    assert leaf.sharding.device_set == {*mesh.devices.flat}, name
    close(alone, spread, tolerance)


def compiled(mesh: object) -> str:
    """The program of one chunk of an autoencoder."""
    stage = pt.Stage(LEARNERS["denoising"], pt.Momentum(0.1), 2, 20, patience=1)
    return fit.lowered(stage, TRAIN, members=8, monitors={"valid": VALID}, mesh=mesh).compile().as_text()


COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")

assert len(jax.devices()) == 8
members, both, batch = population.mesh(8), population.mesh(8, batch=2), population.mesh(1, batch=4)
assert dict(members.shape) == {"member": 8, "batch": 1}
assert dict(both.shape) == {"member": 4, "batch": 2}
assert dict(batch.shape) == {"member": 1, "batch": 4}
assert dict(population.mesh(6).shape) == {"member": 6, "batch": 1}

assert not [word for word in COLLECTIVES if word in compiled(members)]
solving = solution.solutions.lower(population.broadcast(pt.PCA(4), 8), TRAIN, population.member_keys(range(8)), members)
assert not [word for word in COLLECTIVES if word in solving.compile().as_text()]
assert "all-reduce" in compiled(both)

check("classifier", LEARNERS["classifier"], members, 1e-6)
check("classifier", LEARNERS["classifier"], batch, 1e-5)
check("rbm", LEARNERS["rbm"], both, 1e-4)

with pytest.raises(ValueError, match=r"25 rows of a minibatch cannot be divided evenly over 2 devices \('batch'\)"):
    pt.run(LEARNERS["rbm"], pt.Sgd(0.1), TRAIN, epochs=1, batch_size=25, seeds=range(8), mesh=both)

stages = [pt.Stage(pt.PCA(6)), pt.Stage(pt.Autoencoder(8, loss="squared_error"), pt.Momentum(0.01), 2, 20)]
tuning = pt.Stage(pt.Classifier(10), pt.Sgd(0.5), 3, 20, patience=3)
results = []
for mesh in (None, members):
    stack = pt.pretrain(stages, TRAIN, valid=VALID, seeds=range(8), mesh=mesh)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(stack.params[0])} == {1 if mesh is None else 8}
    results.append(pt.fine_tune(stack.layers, tuning, TRAIN, valid=VALID, seeds=range(8), mesh=mesh))
close(*results, 1e-5)
assert jnp.isfinite(results[1].best.score).all()

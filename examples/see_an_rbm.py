"""See what a restricted Boltzmann machine learned: its features, its samples, and how its training went.

python examples/see_an_rbm.py [FOLDER]      pictures go to the folder, by default the current one
"""

import sys
from pathlib import Path

import jax

import pretrain as pt
from pretrain.generative import gibbs_chain
from pretrain.report import warnings

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
data = pt.data.digits()

# Persistent chains go on from minibatch to minibatch: the machine learns against samples of its own.
rbm = pt.BernoulliRBM(64, sampler=pt.PCD(1, n_chains=100))
falling = pt.Sgd(0.1, pt.Linear(end=150))
progress = pt.run(rbm, falling, data.train, monitors={"valid": data.valid}, epochs=150, batch_size=20)
machine = pt.member(progress.params, 0)  # every run is a population, here of one

# A thousand Gibbs steps away from the data the chains show what the machine itself believes in.
dreams = gibbs_chain(machine, jax.random.key(0), data.test.x[:100], n_steps=1000)

for name, figure in {
    "filters.png": pt.plots.filters(machine.weights, (8, 8)),  # grey: no weight; bright: excites the unit
    "samples.png": pt.plots.samples(dreams.probabilities, (8, 8)),
    "learning.png": pt.plots.learning_curves(progress),
    "activations.png": pt.plots.activations(rbm.layer(machine)(data.test.x)),
}.items():
    figure.savefig(folder / name, dpi=150)
    print(f"wrote {folder / name}")

print("\n".join(warnings(progress)) or "nothing looks wrong")

"""Sweep a learning rate as one population: twelve autoencoders and their networks, two compiled programs.

python examples/sweep.py
"""

import numpy as np

import pretrain as pt

data = pt.data.digits()
rates = np.repeat(np.array([0.003, 0.03, 0.3, 3.0], np.float32), 3)  # four rates, three seeds of each
seeds = np.tile([0, 1, 2], 4)

# An array in a recipe is one value a member; everything else is shared.
stage = pt.Stage(pt.Autoencoder(64, corruption=pt.Masking(0.25)), pt.Momentum(rates), epochs=20, batch_size=20)
pretrained = pt.pretrain([stage], data.train, valid=data.valid, seeds=seeds)
tuning = pt.Stage(pt.Classifier(10), pt.Sgd(0.5, pt.Linear(end=20)), epochs=20, batch_size=20, patience=20)
tuned = pt.fine_tune(pretrained.layers, tuning, data.train, valid=data.valid, seeds=seeds)

# A member that diverged harms no other, and says so.
(progress,) = pretrained.progress
loss = progress.history["valid/loss"][-1]
error = np.where(tuned.finite, np.asarray(tuned.best.score), np.nan)
for rate in dict.fromkeys(rates):
    own = rates == rate
    print(
        f"rate {rate:<5g} reconstruction {loss[own].mean():7.2f} nats, "
        f"validation error {error[own].mean():5.2f}% +- {error[own].std(ddof=1):.2f} over {own.sum()} seeds, "
        f"{(~tuned.finite[own]).sum()} diverged"
    )
best = int(np.nanargmin(error))  # chosen on validation rows; the test rows are looked at once, for this one
print(f"best: rate {rates[best]:g}, test error {pt.evaluate(pt.member(tuned.params, best), data.test):.2f}%")

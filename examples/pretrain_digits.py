"""Pretrain a stack on digits, fine-tune it, and compare with the same network without pretraining.

python examples/pretrain_digits.py
"""

import pretrain as pt

SEEDS = range(5)  # five networks of each kind, side by side in one program
data = pt.data.digits()  # 8 x 8 pixels in [0, 1], ten classes: training, validation and test rows

# Each layer learns without labels from the codes of the one below.
layer = pt.Stage(pt.BernoulliRBM(64), pt.Momentum(0.05), epochs=15, batch_size=20)
pretrained = pt.pretrain([layer, layer], data.train, seeds=SEEDS)

# Then all layers learn from the labels; the epoch that does best on validation rows is kept.
tuning = pt.Stage(pt.Classifier(10), pt.Sgd(3.0, pt.Linear(end=20)), epochs=20, batch_size=20, patience=20)
tuned = pt.fine_tune(pretrained.layers, tuning, data.train, valid=data.valid, seeds=SEEDS)

# The same network, training and seeds, from random weights.
alone = pt.Stage(pt.Classifier(10, (64, 64), output_scale=1.0), tuning.optimizer, epochs=20, batch_size=20, patience=20)
random = pt.fine_tune((), alone, data.train, valid=data.valid, seeds=SEEDS)

errors = {}
for name, found in (("pretrained", tuned), ("from random weights", random)):
    errors[name] = pt.evaluate(found.params, data.test)
    print(f"{name}: test error {errors[name].mean():.2f}%, each {', '.join(f'{error:.2f}' for error in errors[name])}")
gain = pt.mean_interval(errors["from random weights"] - errors["pretrained"])
print(f"pretraining gains {gain.mean:.2f} points, 95% interval {gain.low:.2f} to {gain.high:.2f}")

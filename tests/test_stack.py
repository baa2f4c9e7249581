"""The pipeline: pretrain a stack of any mix, fine-tune it, unroll it, use it, save it, hand it on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import pretrain as pt
from pretrain import population, struct, tuning
from pretrain.checkpoint import Checkpoints
from pretrain.data import digits
from pretrain.learners.classifier import Classifier
from pretrain.progress import Progress
from pretrain.stage import codes

pytestmark = pytest.mark.usefixtures("quick_compilation")

SEEDS = (0, 1)
MIX = (
    pt.Stage(pt.BernoulliRBM(24), pt.Momentum(0.05), epochs=30, batch_size=20),
    pt.Stage(pt.Autoencoder(16, corruption=pt.Masking(0.1)), pt.Momentum(0.05), epochs=20, batch_size=20),
    pt.Stage(pt.LogisticAutoregression(12), pt.Momentum(0.05), epochs=20, batch_size=20),
    pt.Stage(pt.SupervisedGreedy(10, (12,)), pt.Sgd(0.5), epochs=20, batch_size=20),
)
TUNING = pt.Stage(Classifier(10), pt.Sgd(0.5), epochs=60, batch_size=20, patience=60)


@pytest.fixture(scope="module")
def data() -> pt.data.Splits:
    return digits()


@pytest.fixture(scope="module")
def mixed(data: pt.data.Splits, quick_compilation: None) -> pt.Pretrained:
    return pt.pretrain(MIX, data.train, valid=data.valid, seeds=SEEDS)


@pytest.fixture(scope="module")
def autoencoders(data: pt.data.Splits, quick_compilation: None) -> pt.Pretrained:
    stages = (
        pt.Stage(pt.BernoulliRBM(24), pt.Momentum(0.05), epochs=5, batch_size=20),
        pt.Stage(pt.Autoencoder(16), pt.Momentum(0.02), epochs=5, batch_size=20),
    )
    return pt.pretrain(stages, data.train, seeds=SEEDS)


def test_any_mix_of_learners_stacks(mixed: pt.Pretrained) -> None:
    assert [layer.weights.shape for layer in mixed.layers] == [(2, 64, 24), (2, 24, 16), (2, 16, 12), (2, 12, 12)]
    assert all(np.isfinite(layer.weights).all() for layer in mixed.layers)


def test_a_layer_is_trained_on_the_codes_of_those_below(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    """The second layer of the stack is the autoencoder trained by itself on the first layer's codes."""
    below = population.member(mixed.layers[0], 1)
    train = pt.Batch(below(data.train.x), data.train.y)
    key = jax.random.fold_in(jax.random.key(SEEDS[1]), 1)
    alone = pt.run(MIX[1].learner, MIX[1].optimizer, train, epochs=20, batch_size=20, keys=key[None])
    np.testing.assert_allclose(alone.params.weights[0], mixed.params[1].weights[1], atol=1e-5)


def test_a_stack_that_is_grown_is_what_all_of_it_would_have_been(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    """Bit for bit, its history too; also where rows are augmented, and are passed up inside every step."""
    grown = pt.pretrain(MIX[3:], data.train, valid=data.valid, seeds=SEEDS, below=mixed.below(3))
    assert grown.stages == mixed.stages
    for one, other in zip(jax.tree.leaves(grown[:2]), jax.tree.leaves(mixed[:2]), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, values in mixed.progress[3].history.items():
        np.testing.assert_array_equal(grown.progress[3].history[name], values)
    short = [pt.Stage(pt.Autoencoder(n), pt.Sgd(0.1), 1, 20) for n in (5, 4)]
    options = {"seeds": SEEDS, "augment": pt.data.Shifts((1, 8, 8), 1)}
    whole = pt.pretrain(short, data.train, **options)
    grown = pt.pretrain(short[1:], data.train, below=whole.below(1), **options)
    np.testing.assert_array_equal(grown.params[1].weights, whole.params[1].weights)
    with pytest.raises(ValueError, match="stack below has 2 members; got 1 seeds"):
        pt.pretrain(MIX[3:], data.train, below=mixed.below(3))
    with pytest.raises(ValueError, match=r"layer 4 of 4: .*n_hidden"):
        pt.pretrain(
            [MIX[2].replace(learner=pt.LogisticAutoregression(13))], data.train, seeds=SEEDS, below=mixed.below(3)
        )


def test_lower_layers_inside_the_step_equal_codes_made_once(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(population.member_keys(SEEDS))
    options = {"epochs": 20, "batch_size": 20, "keys": keys}
    inside = pt.run(MIX[1].learner, MIX[1].optimizer, data.train, lower=mixed.layers[:1], **options)
    np.testing.assert_allclose(inside.params.weights, mixed.params[1].weights, atol=1e-5)


@pytest.mark.slow
def test_fine_tuning_starts_from_the_stack_and_improves_on_chance(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    keys = population.member_keys(SEEDS)
    start = tuning.classifier(mixed.layers, Classifier(10), keys)
    np.testing.assert_array_equal(start.layers[0].weights, mixed.layers[0].weights)
    tuned = pt.fine_tune(mixed.layers, TUNING, data.train, valid=data.valid, seeds=SEEDS)
    assert (np.asarray(tuned.best.score) < 20.0).all()
    network = pt.member(tuned.params, 0)
    assert pt.evaluate(network, data.valid) == pytest.approx(float(tuned.best.score[0]), abs=0.4)  # one row is 0.33
    assert pt.predict(network, data.test.x).shape == (300,)
    assert pt.encode(network, data.test.x).shape == (300, 12)
    assert pt.encode(network, data.test.x, depth=1).shape == (300, 24)


@struct.dataclass
class Blank:
    """An augmentation that leaves nothing of a row: all its values are one."""

    value: float = 1.0

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.full_like(x, self.value)


@pytest.mark.slow
def test_augmented_rows_are_what_every_layer_learns_from(data: pt.data.Splits) -> None:
    """Moved by no pixel a stack is what it was; blank rows are all it then knows, in both layers."""
    stages = MIX[0].replace(epochs=3), MIX[1].replace(epochs=3)
    plain = pt.pretrain(stages, data.train, valid=data.valid)
    moved = pt.pretrain(stages, data.train, valid=data.valid, augment=pt.data.Shifts((1, 8, 8), 0))
    for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(moved.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    blank = pt.pretrain(stages, data.train, valid=data.valid, augment=Blank())
    plain_error, blank_error = (s.progress[0].history["valid/reconstruction_error"][-1] for s in (plain, blank))
    assert blank_error > 2.0 * plain_error
    assert blank.progress[0].history["reconstruction_error"][-1] < plain_error
    key = jax.random.fold_in(jax.random.key(0), 1)[None]
    below = codes(blank.layers[0], data.train)
    unblanked = pt.run(stages[1].learner, stages[1].optimizer, below, epochs=3, batch_size=20, keys=key)
    assert np.abs(unblanked.params.weights - blank.params[1].weights).max() > 0.01
    paired = data.train._replace(pair=data.train.x)
    with pytest.raises(ValueError, match=r"got both augment and train\.pair"):
        pt.run(MIX[0].learner, MIX[0].optimizer, paired, epochs=1, batch_size=20, augment=Blank())


def test_an_output_layer_is_first_trained_alone(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    """With no rate afterwards the network's output is softmax regression on the codes, and no layer moves."""
    alone = pt.Stage(Classifier(10), pt.Sgd(0.5), epochs=3, batch_size=20)
    still = pt.Stage(Classifier(10), pt.Sgd(0.0), epochs=1, batch_size=20)
    layers = mixed.layers[:2]
    tuned = pt.fine_tune(layers, still, data.train, valid=data.valid, seeds=SEEDS, output=alone)
    train, valid = (codes(layers[1], codes(layers[0], batch)) for batch in (data.train, data.valid))
    head = pt.fine_tune((), alone, train, valid=valid, seeds=SEEDS)
    np.testing.assert_allclose(tuned.params.layers[-1].weights, head.params.layers[-1].weights, atol=1e-5)
    assert np.abs(head.params.layers[-1].weights).max() > 0.1
    np.testing.assert_array_equal(tuned.params.layers[0].weights, layers[0].weights)
    with pytest.raises(ValueError, match="give layers, or leave output out"):
        pt.fine_tune((), still, data.train, valid=data.valid, output=alone)


def test_fixed_layers_stay_and_those_above_learn_from_their_codes(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    stage = pt.Stage(Classifier(10), pt.Sgd(0.5), epochs=2, batch_size=20)
    tuned = pt.fine_tune(mixed.layers[:2], stage, data.train, valid=data.valid, seeds=SEEDS, fixed=1).params
    np.testing.assert_array_equal(tuned.layers[0].weights, mixed.layers[0].weights)
    assert np.abs(tuned.layers[1].weights - mixed.layers[1].weights).max() > 0.01
    train, valid = (codes(mixed.layers[0], batch) for batch in (data.train, data.valid))
    above = pt.fine_tune(mixed.layers[1:2], stage, train, valid=valid, seeds=SEEDS).params
    np.testing.assert_allclose(tuned.layers[1].weights, above.layers[0].weights, atol=1e-6)
    with pytest.raises(ValueError, match=r"fixed must lie in 0..2, the number of layers; got 3"):
        pt.fine_tune(mixed.layers[:2], stage, data.train, valid=data.valid, seeds=SEEDS, fixed=3)


def test_early_stopping_keeps_the_best_epoch_and_stops(data: pt.data.Splits) -> None:
    """A learning rate that later wrecks the network: what is kept is what the best epoch had."""
    stage = pt.Stage(Classifier(10, (16,)), pt.Sgd(8.0), epochs=40, batch_size=20, patience=3)
    tuned = pt.fine_tune((), stage, data.train, valid=data.valid, seeds=SEEDS)
    curve = tuned.history["valid/error"]
    for index in range(len(SEEDS)):
        best = int(tuned.best.epoch[index])
        assert float(tuned.best.score[index]) == curve[best - 1, index]
        stop = min(best + stage.patience + 1, len(curve))
        assert curve[:stop, index].min() == curve[best - 1, index]
        assert pt.evaluate(pt.member(tuned.params, index), data.valid) == pytest.approx(curve[best - 1, index], abs=0.4)
    assert tuned.epoch == max(int(e) for e in tuned.best.epoch) + stage.patience + 1 or tuned.epoch == stage.epochs


def test_unrolled_stack_reconstructs_and_fine_tunes(
    data: pt.data.Splits, autoencoders: pt.Pretrained, tmp_path
) -> None:
    unrolled = pt.unroll(autoencoders)
    before = pt.member(unrolled, 0)
    mean_error = np.square(data.valid.x - data.train.x.mean(axis=0)).sum(axis=1).mean()
    stage = pt.Stage(pt.DeepAutoencoder((24, 16)), pt.Sgd(0.05), epochs=5, batch_size=20)
    tuned = pt.fine_tune((), stage, data.train, valid=data.valid, seeds=SEEDS, params=unrolled)
    after = pt.member(tuned.params, 0)
    errors = [np.square(data.valid.x - pt.reconstruct(net, data.valid.x)).sum(axis=1).mean() for net in (before, after)]
    assert errors[1] < errors[0] < mean_error
    pt.save(after, tmp_path / "deep.npz")
    again = pt.load(tmp_path / "deep.npz")
    np.testing.assert_array_equal(pt.encode(again, data.test.x), pt.encode(after, data.test.x))


def test_a_diverged_member_neither_stops_nor_harms_the_others(data: pt.data.Splits) -> None:
    """Its codes are NaN from the first layer on; the other member goes on as if alone."""
    stages = [
        pt.Stage(pt.Autoencoder(8, loss="squared_error", activation="relu"), pt.Sgd(rates), epochs=2, batch_size=20)
        for rates in (np.array([0.001, 1e9]), np.array([0.001, 0.001]))
    ]
    both = pt.pretrain(stages, data.train, seeds=SEEDS)
    assert [p.finite.tolist() for p in both.progress] == [[True, False], [True, False]]
    tuned = pt.fine_tune(both.layers, TUNING.replace(epochs=2), data.train, valid=data.valid, seeds=SEEDS)
    assert tuned.finite.tolist() == [True, False]
    alone = [stage.replace(optimizer=pt.Sgd(0.001)) for stage in stages]
    single = pt.pretrain(alone, data.train, seeds=SEEDS[:1])
    np.testing.assert_allclose(both.layers[1].weights[0], single.layers[1].weights[0], atol=1e-5)


def test_usual_mistakes_are_told(data: pt.data.Splits, autoencoders: pt.Pretrained) -> None:
    """And the stack itself, or one network's layers stacked, may be given to be fine-tuned."""
    stage, train = TUNING.replace(epochs=1, patience=None), data.train
    of_stack = pt.fine_tune(autoencoders, stage, train, seeds=SEEDS)
    one = pt.member(autoencoders.layers, 1)
    twice = pt.fine_tune(pt.stacked([one, one]), stage, train, seeds=[1, 1])
    for params, index in ((of_stack.params, 1), (twice.params, 0), (twice.params, 1)):
        for ours, theirs in zip(params.layers, of_stack.params.layers, strict=True):
            np.testing.assert_allclose(ours.weights[index], theirs.weights[1], atol=1e-6)
    with pytest.raises(ValueError, match=r"without a member axis: give pretrain\.stacked"):
        pt.fine_tune(one, stage, train, seeds=[1])
    with pytest.raises(
        ValueError, match=r"must be a recipe .*: declare an optax optimizer in a pretrain\.struct\.dataclass"
    ):
        pt.run(pt.BernoulliRBM(4), optax.adam(1e-3), train, epochs=1, batch_size=20)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"of numbers; \.schedule is <function"):
        pt.pretrain([pt.Stage(pt.BernoulliRBM(4), pt.Sgd(0.1, lambda epoch: 1.0), 1, 20)], train)
    images = pt.Batch(train.x.reshape(-1, 8, 8))
    with pytest.raises(
        ValueError, match=r"shape \(1197, 8, 8\), rows of their own for 1197 members, .* are 1: flatten"
    ):
        pt.run(pt.BernoulliRBM(4), pt.Sgd(0.1), images, epochs=1, batch_size=20)
    with jax.enable_x64(True), pytest.raises(ValueError, match="unset JAX_ENABLE_X64"):
        pt.run(pt.BernoulliRBM(4), pt.Sgd(0.1), train, epochs=1, batch_size=20)


def test_the_loss_must_suit_the_decoder(data: pt.data.Splits, autoencoders: pt.Pretrained) -> None:
    stage = pt.Stage(pt.DeepAutoencoder((24, 16), loss="squared_error"), pt.Sgd(0.05), epochs=1, batch_size=20)
    with pytest.raises(ValueError, match="needs a decoder that ends in a linear layer; this one ends in a sigmoid"):
        pt.fine_tune((), stage, data.train, valid=data.valid, seeds=SEEDS, params=pt.unroll(autoencoders))


def test_a_stack_without_decoders_cannot_be_unrolled(mixed: pt.Pretrained) -> None:
    with pytest.raises(ValueError, match="LogisticAutoregression learns no decoder"):
        pt.unroll(mixed)


def test_only_a_classifier_is_put_on_layers(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    stage = pt.Stage(pt.DeepAutoencoder((4,)), pt.Sgd(0.1), epochs=1)
    with pytest.raises(ValueError, match="not a DeepAutoencoder: pass params"):
        pt.fine_tune(mixed.layers, stage, data.train, valid=data.valid, seeds=SEEDS)


def test_what_fine_tuning_would_pass_over_is_refused(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    tuned = tuning.classifier(mixed.layers, Classifier(10), population.member_keys(SEEDS))
    stage = pt.Stage(Classifier(10), pt.Sgd(0.1), 1, 20)
    for layers, options in ((mixed, {}), ((), {"fixed": 1})):
        with pytest.raises(ValueError, match="give params and neither layers nor fixed"):
            pt.fine_tune(layers, stage, data.train, seeds=SEEDS, params=tuned, **options)
    with pytest.raises(ValueError, match=r"got a Network: .*params=pretrain.stacked\(\[network\]\)"):
        pt.fine_tune(pt.member(tuned, 0), stage, data.train)
    for more in (Classifier(12), pt.SquaredErrorClassifier(12)):
        with pytest.raises(ValueError, match="10 outputs, but n_classes=12"):
            pt.fine_tune((), stage.replace(learner=more), data.train, seeds=SEEDS, params=tuned)


def test_the_same_network_in_flax(mixed: pt.Pretrained, data: pt.data.Splits) -> None:
    network = mixed.network(1)
    module = pt.to_nnx(network)
    assert isinstance(module, nnx.Module)
    np.testing.assert_allclose(module(data.test.x), network(data.test.x), rtol=1e-6, atol=1e-6)


def test_pair_is_mapped_beside_x(data: pt.data.Splits, mixed: pt.Pretrained) -> None:
    batch = pt.Batch(data.valid.x[:5], data.valid.y[:5], data.valid.x[5:10])
    coded = codes(mixed.layers[0], batch)
    np.testing.assert_allclose(coded.pair[1], pt.member(mixed.layers[0], 1)(batch.pair), rtol=1e-6)
    assert coded.x.shape == (2, 5, 24)
    np.testing.assert_array_equal(coded.y, batch.y)


def test_progress_delivers_the_last_parameters_without_early_stopping(data: pt.data.Splits) -> None:
    progress = pt.run(Classifier(10), pt.Sgd(0.5), data.train, epochs=2, batch_size=20, monitors={"valid": data.valid})
    assert isinstance(progress, Progress)
    assert progress.best is None
    assert progress.params is progress.fits.params
    assert set(progress.history) == {"error", "loss", "valid/error", "valid/loss"}
    assert progress.history["valid/error"].shape == (2, 1)
    assert jnp.asarray(progress.fits.step).tolist() == [2 * (1197 // 20)]


def test_a_solver_is_a_stage_like_any_other(data: pt.data.Splits, tmp_path) -> None:
    """Standardised, so that a Gaussian RBM can stand on it; kept in a checkpoint and fine-tuned under a classifier."""
    stages = [
        pt.Stage(pt.Standardise()),
        pt.Stage(pt.GaussianRBM(12), pt.Momentum(0.01), epochs=3, batch_size=20),
        pt.Stage(pt.PCA(6)),
    ]
    folder = tmp_path / "run"
    first = pt.pretrain(stages, data.train, valid=data.valid, seeds=SEEDS, checkpoints=Checkpoints(folder))
    assert [progress.epoch for progress in first.progress] == [0, 3, 0]
    assert first.progress[0].finite.all()
    again = pt.pretrain(stages, data.train, valid=data.valid, seeds=SEEDS, checkpoints=Checkpoints(folder))
    jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
    x = np.asarray(data.train.x)
    spread = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    np.testing.assert_allclose(pt.member(first.layers[0], 1)(x), (x - x.mean(axis=0)) / spread, rtol=1e-4, atol=1e-4)
    tuned = pt.fine_tune(first.layers, TUNING.replace(epochs=30), data.train, valid=data.valid, seeds=SEEDS)
    assert (np.asarray(tuned.best.score) < 50.0).all()  # six linear units of twelve; chance is 90
    assert pt.encode(pt.member(tuned.params, 0), data.test.x).shape == (300, 6)

"""What is trained serves again: under other layers, for many seeds, from a file; and what is no network says so."""

from pathlib import Path

import jax
import numpy as np
import pytest

import pretrain as pt
from pretrain import population
from pretrain.data import digits

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYER = pt.Stage(pt.BernoulliRBM(8), pt.Momentum(0.1), epochs=2, batch_size=50)
TUNING = pt.Stage(pt.Classifier(10), pt.Sgd(0.5), epochs=2, batch_size=20)


@pytest.fixture(scope="module")
def data() -> pt.data.Splits:
    return digits()


@pytest.fixture(scope="module")
def stack(data: pt.data.Splits, quick_compilation: None) -> pt.Pretrained:
    return pt.pretrain([LAYER], data.train)


def some(batch: pt.Batch, n: int) -> pt.Batch:
    return jax.tree.map(lambda leaf: leaf[:n], batch)


@pytest.mark.slow
def test_layers_may_be_put_on_a_stack_with_rows_that_its_own_stages_would_refuse(data: pt.data.Splits) -> None:
    """Fewer than a minibatch, without labels, without validation rows; rows of another width are refused."""
    supervised = pt.Stage(pt.SupervisedGreedy(10, (8,)), pt.Sgd(0.5), epochs=1, batch_size=50, patience=3)
    below = pt.pretrain([supervised], data.train, valid=data.valid)
    above = LAYER.replace(batch_size=10)  # type: ignore[attr-defined]
    few = pt.Batch(data.train.x[:40])
    grown = pt.pretrain([above], few, below=below)
    alone = pt.pretrain([above], pt.Batch(np.asarray(below.layers[0](few.x[None]))[0]))
    assert [layer.n_out for layer in grown.layers] == [8, 8]
    assert grown.params[1].weights.shape == alone.params[0].weights.shape
    refused = {
        r"layer 1 of 2: train\.x has 30 features but the layers take 64": (few.x[:, :30], None),
        r"layer 1 of 2: valid\.x has 30 features but the layers take 64": (few.x, pt.Batch(few.x[:, :30])),
        r"layer 1 of 2: train\.x .*NaN or infinite": (few.x.at[3, 5].set(np.nan), None),
        r"layer 1 of 2: train\.x must be floating point": ((255 * few.x).astype(np.uint8), None),
    }
    for message, (x, valid) in refused.items():
        with pytest.raises(ValueError, match=message):
            pt.pretrain([above], pt.Batch(x), valid=valid, below=below)


@pytest.mark.slow
def test_a_stack_grows_in_its_own_folder_and_on_layers_of_any_kind(data: pt.data.Splits, tmp_path: Path) -> None:
    kept, few = pt.checkpoint.Checkpoints(tmp_path), some(data.train, 100)
    first = pt.pretrain([LAYER], few, checkpoints=kept)
    grown = pt.pretrain([LAYER], few, below=first, checkpoints=kept)
    whole = pt.pretrain([LAYER, LAYER], few)
    np.testing.assert_array_equal(grown.params[1].weights, whole.params[1].weights)
    with pytest.raises(ValueError, match=r"layer 1 of 2: train\.x must lie in \[0, 1\]"):
        pt.pretrain([LAYER], pt.Batch(255.0 * few.x), below=first)
    deep = pt.Stage(pt.DeepAutoencoder((8, 4)), pt.Sgd(0.1), epochs=1, batch_size=20)  # its layer is a Network
    assert pt.pretrain([LAYER], few, below=pt.pretrain([deep], few)).params[1].weights.shape == (1, 4, 8)


def test_the_layers_of_one_member_serve_all_seeds(data: pt.data.Splits, stack: pt.Pretrained) -> None:
    """Each as with a stack of its own that happens to be the same."""
    train, seeds = some(data.train, 200), [0, 1, 2]
    one = pt.fine_tune(stack, TUNING, train, seeds=seeds)
    three = pt.fine_tune(pt.stacked([pt.member(stack.layers, 0)] * 3), TUNING, train, seeds=seeds)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(three.params), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="the layers have 3 members but there are 2 seeds"):
        pt.fine_tune(pt.stacked([pt.member(stack.layers, 0)] * 3), TUNING, train, seeds=[0, 1])


def test_saved_layers_are_tuned_as_those_that_were_saved(
    data: pt.data.Splits, stack: pt.Pretrained, tmp_path: Path
) -> None:
    pt.save(stack.network(0), tmp_path / "stack.npz")
    loaded = pt.load(tmp_path / "stack.npz")
    with pytest.raises(ValueError, match=r"its layers go under a new output as fine_tune\(pretrain.stacked\(\["):
        pt.fine_tune(loaded, TUNING, data.train)
    again, plain = (
        pt.fine_tune(layers, TUNING, some(data.train, 100)) for layers in (pt.stacked([loaded.layers]), stack.layers)
    )
    np.testing.assert_array_equal(again.params.layers[-1].weights, plain.params.layers[-1].weights)


def test_a_population_is_evaluated_member_by_member(data: pt.data.Splits, stack: pt.Pretrained) -> None:
    tuned = pt.fine_tune(stack, TUNING, some(data.train, 200), seeds=[0, 1])
    errors = pt.evaluate(tuned.params, data.test)
    assert errors.shape == (2,)
    np.testing.assert_array_equal(errors, [pt.evaluate(pt.member(tuned.params, m), data.test) for m in (0, 1)])


def test_what_is_no_network_or_population_says_what_to_give(data: pt.data.Splits, stack: pt.Pretrained) -> None:
    tuned = pt.fine_tune(stack, TUNING, some(data.train, 100))
    for use in (pt.encode, pt.predict):
        with pytest.raises(ValueError, match=r"a Progress is no network: give pretrain\.member\(tuned\.params, 0\)"):
            use(tuned, data.test.x)
    with pytest.raises(ValueError, match="a Pretrained is no network"):
        pt.evaluate(stack, data.test)  # type: ignore[arg-type]
    for whole in (tuned, stack):
        with pytest.raises(ValueError, match="is no population of arrays: give the params"):
            pt.member(whole, 0)
    keys = population.member_keys([0])
    for kept in (pt.keep_lowest(stack, 1, keys), pt.shuffle(stack, keys)):
        assert [layer.n_out for layer in kept] == [8]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"n must lie in 0\.\.1"):
        pt.keep_lowest(stack, 4, keys)


def test_fine_tuning_that_cannot_begin_says_why(data: pt.data.Splits, stack: pt.Pretrained) -> None:
    for given, message in (
        ({"stage": TUNING.learner}, r"a stage was asked for; got Classifier: Stage\(learner, optimizer, epochs\)"),
        ({"stage": pt.Stage(pt.Classifier(10))}, "Classifier is trained: give an optimizer and epochs"),
        ({"output": pt.Stage(pt.Classifier(10))}, "Classifier is trained: give an optimizer and epochs"),
        ({"layers": (), "params": pt.unroll(stack), "seeds": [0, 1]}, "params have 1 members but there are 2 seeds"),
        ({"layers": (), "params": stack.network(0)}, r"one network's, .*: give params=pretrain\.stacked\(\[network"),
    ):
        with pytest.raises(ValueError, match=message):
            pt.fine_tune(**{"layers": stack, "stage": TUNING, "train": data.train} | given)  # type: ignore[arg-type]


def test_an_interval_of_a_mean_needs_two_values() -> None:
    found = pt.mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.high - found.mean) == pytest.approx((2.0, 2.484138), abs=1e-6)  # t(0.975, 2) / sqrt(3)
    assert pt.mean_interval(np.full(4, 1.5)) == (1.5, 1.5, 1.5)
    for values in ([1.0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="an interval needs two values or more"):
            pt.mean_interval(values)
    with pytest.raises(ValueError, match="confidence is a share, between 0 and 1; got 95"):
        pt.mean_interval([1.0, 2.0], 95)

"""Progress and warnings: each warning when it should be given, and none for healthy runs; the probe behind them."""

from __future__ import annotations

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from pretrain import Autoencoder, Batch, Classifier, Dense, Momentum, Network, Progress, Sgd, Unrolled, fit, member
from pretrain.diagnostics import diagnose, hidden_layers, stuck_units, update_ratio
from pretrain.progress import Fit
from pretrain.report import Lines, Live, Record, measures, progress, warnings
from pretrain.stack import Pretrained

pytestmark = pytest.mark.usefixtures("quick_compilation")

EPOCHS = 12
FALLING = 50.0 * 0.8 ** np.arange(EPOCHS)


def columns(own: dict[str, Any], members: int) -> dict[str, np.ndarray]:
    """Each measure as ``[epoch, members]``: what is given by epoch alone is that of all members."""
    arrays = {name: np.asarray(values, np.float32) for name, values in own.items()}
    return {name: a if a.ndim == 2 else np.tile(a[:, None], (1, members)) for name, a in arrays.items()}


def history(members: int = 1, **changed: Any) -> dict[str, np.ndarray]:
    """An RBM's, as healthy as the package's own runs look, but for what is changed."""
    own: dict[str, Any] = {
        "reconstruction_error": FALLING,
        "train/reconstruction_error": 0.9 * FALLING,
        "valid/reconstruction_error": 0.95 * FALLING,
        "train/free_energy": -200.0 - 10.0 * np.arange(EPOCHS),
        "valid/free_energy": -199.0 - 9.8 * np.arange(EPOCHS),
        "update_ratio": 0.2 / np.arange(1, EPOCHS + 1) ** 2,  # the first epochs' weights are small
        "dead_units": 0.8 * 0.9 ** np.arange(EPOCHS),
        "saturated_units": np.full(EPOCHS, 0.02),
    }
    return columns(own | changed, members)


def classifier(**changed: Any) -> dict[str, np.ndarray]:
    own = {"error": FALLING, "loss": FALLING / 30, "valid/error": FALLING + 1, "valid/loss": FALLING / 30}
    return columns(own | changed, 1)


def up_to(epochs: int, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values[:epochs] for name, values in seen.items()}


def first_told(seen: dict[str, np.ndarray], words: str) -> int:
    """The epoch after which the one warning of a history is given, which must say this and go on to the end."""
    told = [warnings(up_to(epoch, seen)) for epoch in range(1, EPOCHS + 1)]
    epoch = next(i for i, texts in enumerate(told) if texts)
    for texts in told[epoch:]:
        assert len(texts) == 1, texts
        assert words in texts[0], texts[0]
    return epoch + 1


def test_healthy_runs_are_not_warned_of() -> None:
    random = np.random.default_rng(0)
    noisy = 1.5 + 0.1 * random.standard_normal(EPOCHS)
    noisy[:2] = 20.0, 3.0  # an error that has come down and moves no more but for chance
    ended = np.append(np.full(EPOCHS - 1, 3e-3), 0.0)  # the rate's schedule ends
    runs = (
        history(),
        history(members=3),
        classifier(),
        classifier(**{"valid/error": noisy}),
        history(update_ratio=ended),
    )
    for seen in runs:
        for epoch in range(1, EPOCHS + 1):
            assert warnings(up_to(epoch, seen)) == []
    assert warnings({}) == []


def test_warnings_of_a_stack_name_the_layer() -> None:
    def stage(seen: dict[str, np.ndarray]) -> Progress:
        return Progress(EPOCHS, None, None, seen, 0.0)  # type: ignore[arg-type]

    lost = history(dead_units=np.ones(EPOCHS))
    stack = Pretrained((), (), (), (stage(history()), stage({}), stage(lost)))
    assert warnings(stack) == [f"layer 3: {text}" for text in warnings(lost)]
    assert warnings(lost)


def test_divergence_is_counted() -> None:
    values = np.tile(FALLING[:, None], (1, 4))
    values[4:, 1], values[6:, 3] = np.nan, np.inf
    seen = history(4, **{"valid/reconstruction_error": values})
    assert warnings(up_to(4, seen)) == []
    assert warnings(up_to(5, seen)) == ["1 of 4 members diverged, the first in epoch 5: lower the learning rate"]
    assert warnings(seen) == ["2 of 4 members diverged, the first in epoch 5: lower the learning rate"]
    lost = history(2, update_ratio=np.full((EPOCHS, 2), np.nan))
    assert warnings(lost) == ["2 of 2 members diverged, the first in epoch 1: lower the learning rate"]


def test_update_ratios_out_of_their_range_are_told() -> None:
    fast = np.array([0.5, 0.02, 0.02, 0.3, 0.3, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4])
    assert first_told(history(update_ratio=fast), "of the weights, about 1e-3 is usual: lower the learning rate") == 6
    slow = np.full((EPOCHS, 3), 1e-3)
    slow[:, 1] = 2e-6
    words = "an update is only 2e-06 of the weights in 1 of 3 members, about 1e-3 is usual: raise"
    assert first_told(history(3, update_ratio=slow), words) == 3


def test_stuck_units_are_told_unless_they_revive() -> None:
    dead = history(dead_units=np.append([0.1, 0.2, 0.3], np.full(EPOCHS - 3, 0.9)))
    assert first_told(dead, "90% of the units are dead: lower the learning rate") == 6
    saturated = history(saturated_units=np.append(np.zeros(4), np.full(EPOCHS - 4, 0.4)))
    assert first_told(saturated, "40% of the units are saturated: lower the learning rate, decay the weights") == 7
    few = history(dead_units=np.full(EPOCHS, 0.55), saturated_units=np.full(EPOCHS, 0.25))
    assert warnings(few) == []


def test_a_rate_that_stopped_all_units_is_not_said_to_be_too_low() -> None:
    """Units that no longer move make small updates: one advice, not two that contradict each other."""
    tiny = np.full(EPOCHS, 1e-9)
    stopped = history(update_ratio=tiny, dead_units=np.ones(EPOCHS))
    found = warnings(stopped)
    assert any("lower the learning rate" in text for text in found)
    assert not any("raise" in text for text in found)
    assert any("raise" in text for text in warnings(history(update_ratio=tiny)))


def test_a_growing_free_energy_gap_is_told() -> None:
    """By 4 nats an epoch beside 250; one that was always there, or comes and goes, is not."""
    energy = np.full(EPOCHS, -250.0)

    def energies(valid: np.ndarray) -> dict[str, np.ndarray]:
        return history(**{"train/free_energy": energy, "valid/free_energy": valid})

    growing = energies(energy + 4.0 * np.arange(EPOCHS))
    told = first_told(growing, "nats, which is overfitting")
    assert told == 7  # mean 20 - mean 4 = 16 > 5% of 250 = 12.5
    assert "has grown by 16 to 20 nats" in warnings(up_to(7, growing))[0]
    constant = energies(energy + 60.0)
    assert warnings(constant) == []
    chance = energy + 3.0 * np.random.default_rng(0).standard_normal(EPOCHS)
    assert warnings(energies(chance)) == []


def test_lost_progress_is_told() -> None:
    rising = np.array([40.0, 8, 3, 2, 2, 2, 2, 6, 6, 7, 7, 8])
    seen = classifier(**{"valid/error": rising})
    assert first_told(seen, "valid error % got worse, from 2.") == EPOCHS
    slightly = np.array([40.0, 8, 3, 2, 2, 2, 2, 2.4, 2.4, 2.4, 2.4, 2.4])  # 1% of what was gained
    assert warnings(classifier(**{"valid/error": slightly})) == []
    machine = history(**{"valid/reconstruction_error": rising})
    assert "valid reconstruction error (not what CD descends) got worse" in warnings(machine)[0]


def test_progress_is_judged_by_the_learners_own_measure() -> None:
    seen = history()
    judged = progress(seen)
    assert list(judged) == ["valid reconstruction error (not what CD descends)", "free-energy gap"]
    np.testing.assert_array_equal(judged["free-energy gap"], seen["valid/free_energy"] - seen["train/free_energy"])
    one = np.ones((2, 1))
    assert list(progress(classifier())) == ["valid error %"]
    assert list(progress({"loss": one, "train/loss": 2 * one, "update_ratio": one})) == ["train loss"]
    assert list(progress({"mean_gap": one, "update_ratio": one})) == ["gap of means"]
    partly = {"cross_entropy": one, "loss": one, "valid/error": np.nan * one, "valid/loss": one}
    assert list(progress(partly)) == ["valid loss"]
    embedding = {f"valid/{name}": one for name in ("attraction", "cross_entropy", "error", "margin_loss", "repulsion")}
    assert list(progress(embedding)) == ["valid margin loss"]
    assert progress({"update_ratio": one}) == {}
    assert warnings(Progress(2, None, None, {"loss": one}, 0.0)) == []  # type: ignore[arg-type]


def test_measures_by_other_names_are_shown_and_not_judged() -> None:
    rising = columns({"loss": FALLING, "valid/explained": 1.0 - FALLING / 100, "valid/mse": FALLING / 100}, 1)
    assert "valid explained" in measures(rising)
    assert warnings(rising) == []
    worse = columns({"loss": FALLING, "valid/explained": FALLING, "valid/loss": FALLING[::-1]}, 1)
    assert "valid loss got worse" in warnings(worse)[0]


def test_measures_are_means_over_finite_members() -> None:
    values = np.array([[4.0, 2.0, np.nan]])
    shown = measures({"loss": values, "valid/loss": values * np.nan, "dead_units": values})
    assert shown == "loss 3, (1 of 3 diverged), valid loss diverged"


def record(epoch: int, seen: dict[str, np.ndarray], stage: str = "layer 1/2") -> Record:
    return Record(stage, "BernoulliRBM", epoch, EPOCHS, up_to(epoch, seen), float(epoch))


def test_lines_warn_once_a_stage() -> None:
    stream = io.StringIO()
    lines = Lines("srbm", stream)
    dead = history(dead_units=np.linspace(0.9, 0.99, EPOCHS))
    for stage in ("layer 1/2", "layer 2/2"):
        for epoch in range(1, EPOCHS + 1):
            lines(record(epoch, dead, stage))
    told = [line for line in stream.getvalue().splitlines() if line.startswith("warning")]
    advice = "92% of the units are dead: lower the learning rate, or start from smaller weights"
    assert told == [f"warning: srbm | layer {i}/2 BernoulliRBM | epoch 3 | {advice}" for i in (1, 2)]
    others = [line for line in stream.getvalue().splitlines() if not line.startswith("warning")]
    assert [line.split(" | ")[2] for line in others] == ["epoch 1/12", "epoch 11/12", "epoch 12/12"] * 2


def test_live_prints_warnings_above_the_bar() -> None:
    stream = io.StringIO()
    with Live(Console(file=stream, width=60, force_terminal=False)) as live:
        for epoch in range(1, EPOCHS + 1):
            live(record(epoch, history(saturated_units=np.full(EPOCHS, 0.5))))
    text = stream.getvalue()
    assert text.count("warning: layer 1/2 BernoulliRBM | epoch 3 | 50% of the units are saturated: lower the") == 1


# ---------------------------------------------------------------- the probe

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), jnp.float32)


def responding(activation: str, *bias: float) -> dict[str, float]:
    """The shares of stuck units of a layer whose units get these biases, the first of them also the first feature."""
    weights = jnp.zeros((3, len(bias))).at[0, 0].set(100.0)
    layer = Dense(weights, jnp.asarray(bias), activation)
    return {name: float(share) for name, share in stuck_units(layer, ROWS).items()}


def test_stuck_units_by_activation() -> None:
    """The first unit swings from end to end with its feature, and is never stuck."""
    assert responding("sigmoid", 0.0, -3.0, 3.0, 0.0, -2.9) == pytest.approx(
        {"dead_units": 0.2, "saturated_units": 0.2}
    )
    assert responding("tanh", 0.0, 0.04, -2.0, 2.0, 1.0) == pytest.approx({"dead_units": 0.2, "saturated_units": 0.4})
    assert responding("relu", 0.0, -1.0, 0.0, 9.0) == pytest.approx({"dead_units": 0.5})
    assert responding("linear", 0.0, 0.0) == {}


def test_stuck_units_of_networks_are_those_of_all_hidden_layers() -> None:
    dead, swings = Dense(jnp.zeros((3, 2)), jnp.full((2,), -9.0)), Dense(100.0 * jnp.eye(2), -0.01 * jnp.ones((2,)))
    alive = Dense(jnp.zeros((2, 2)), jnp.zeros((2,)))
    output = Dense(jnp.zeros((2, 5)), jnp.full((5,), -9.0))
    assert float(stuck_units(Network((dead, alive, output), head=True), ROWS)["dead_units"]) == 0.5
    assert float(stuck_units(Unrolled((dead,), (output,)), ROWS)["dead_units"]) == 1.0
    assert hidden_layers(Network((output,), head=True)) == ()
    assert stuck_units(lambda x: x, ROWS) == {}
    lost = Dense(jnp.full((3, 2), jnp.nan), jnp.zeros((2,)))
    assert all(np.isnan(float(share)) for share in stuck_units(Network((lost, swings)), ROWS).values())


def test_update_ratio_is_that_of_matrices() -> None:
    params = {"weights": jnp.array([[2.0, -2.0]]), "bias": jnp.array([100.0]), "more": jnp.full((2, 2), 0.5)}
    updates = {"weights": jnp.array([[-0.3, 0.0]]), "bias": jnp.array([7.0]), "more": jnp.full((2, 2), 0.075)}
    assert float(update_ratio(params, updates)["update_ratio"]) == pytest.approx(0.6 / 6.0)
    assert update_ratio({"bias": jnp.ones(3)}, {"bias": jnp.ones(3)}) == {}


@pytest.mark.parametrize("recipe", [Sgd(0.3), Momentum(0.3)], ids=["sgd", "momentum"])
def test_diagnose_tells_of_the_update_that_would_be_made(recipe: Any) -> None:
    """One more update on the same rows changes the weights by what was told."""
    learner, x = Autoencoder(4, loss="squared_error"), ROWS
    before = fit.run(learner, recipe, Batch(x), epochs=2, batch_size=40)
    alone = Fit(*(member(part, 0) for part in before.fits))
    told = diagnose(learner, recipe.build(1), alone, Batch(x), jax.random.key(0))
    weights = np.asarray(before.params.weights)[0]
    after = fit.run(learner, recipe, Batch(x), epochs=3, batch_size=40, resume=before)
    change = np.abs(np.asarray(after.params.weights)[0] - weights).mean()
    assert float(told["update_ratio"]) == pytest.approx(change / np.abs(weights).mean(), rel=1e-3)
    assert set(told) == {"update_ratio", "dead_units", "saturated_units"}


def test_a_run_keeps_the_signs_of_every_member() -> None:
    """What the loop records is what `diagnose` tells: of three rates, the absurd one kills all units."""
    rows = Batch(jnp.abs(ROWS), jnp.arange(40) % 2)
    learner = Classifier(2, (6,), activation="relu", output_scale=1.0)
    seen = fit.run(
        learner, Sgd(np.array([1e-9, 0.05, 1e3])), rows, epochs=4, batch_size=20, seeds=[0, 0, 0], probe=True
    ).history
    assert seen["update_ratio"].shape == seen["dead_units"].shape == (4, 3)
    assert (seen["update_ratio"][:, 0] < 1e-5).all()
    assert (seen["update_ratio"][:, 1] > 1e-4).all()
    assert "saturated_units" not in seen
    told = " ".join(warnings(seen))
    assert "an update is only" in told
    assert "in 1 of 3 members" in told

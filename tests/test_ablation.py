"""What is kept of a stack, and the claims that are tested on many networks."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import pretrain as pt
from benchmarks import claims, figures, illustrations
from benchmarks.experiment import Published, Row
from benchmarks.papers import erhan2009
from benchmarks.summary import Summary, summary
from pretrain.data import digits, subset
from pretrain.population import member_keys

KEYS = member_keys([0, 1])


def stack_of(*sizes: int) -> tuple[pt.Dense, ...]:
    """Layers of two members with distinct values."""
    random = np.random.default_rng(0)
    return tuple(
        pt.Dense(jnp.asarray(random.normal(size=(2, n, m)), jnp.float32), jnp.asarray(random.normal(size=(2, m))))
        for n, m in itertools.pairwise(sizes)
    )


def test_lowest_layers_are_kept_and_those_above_start_as_random_networks_do() -> None:
    layers = stack_of(100, 80, 80)
    kept = pt.keep_lowest(layers, 1, KEYS)
    assert kept[0] is layers[0]
    weights = np.asarray(kept[1].weights)  # type: ignore[attr-defined]
    assert weights.shape == (2, 80, 80)
    assert not np.asarray(kept[1].bias).any()  # type: ignore[attr-defined]
    bound = 1 / np.sqrt(80)
    for values in weights.reshape(2, -1):
        assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert not np.array_equal(weights[0], weights[1])
    same = pt.keep_lowest(stack_of(100, 80, 80), 1, KEYS)
    np.testing.assert_array_equal(same[1].weights, weights)  # type: ignore[attr-defined]
    assert pt.keep_lowest(layers, 2, KEYS) == layers


def test_shuffling_keeps_each_layers_values_and_nothing_else() -> None:
    layers = stack_of(30, 20, 20)
    shuffled = pt.shuffle(layers, KEYS)
    for before, after in zip(layers, shuffled, strict=True):
        for name in ("weights", "bias"):
            old, new = (np.asarray(getattr(layer, name)).reshape(2, -1) for layer in (before, after))
            np.testing.assert_array_equal(np.sort(old), np.sort(new))
            assert not np.array_equal(old, new)
        old, new = np.asarray(before.weights[0]).ravel(), np.asarray(after.weights[0]).ravel()  # type: ignore[attr-defined]
        assert abs(np.corrcoef(old, new)[0, 1]) < 4 / np.sqrt(old.size)


def test_what_cannot_be_kept_is_refused() -> None:
    layers = stack_of(4, 3)
    with pytest.raises(ValueError, match=r"n must lie in 0..1, the number of layers; got 2"):
        pt.keep_lowest(layers, 2, KEYS)
    with pytest.raises(ValueError, match=r"initialization must be one of uniform, .*got 'xavier'"):
        pt.keep_lowest(layers, 1, KEYS, initialization="xavier")
    with pytest.raises(ValueError, match="layer 1 is a Rescaling: only Dense layers can start anew"):
        pt.shuffle((pt.Rescaling(jnp.zeros((2, 3)), jnp.ones((2, 3))),), KEYS)


@pytest.mark.slow
def test_a_stage_does_not_depend_on_those_above() -> None:
    """So that one deep stack serves every depth."""
    train = jax.tree.map(lambda leaf: leaf[:200], digits().train)
    stage = pt.Stage(pt.Autoencoder(8, corruption=pt.Masking(0.25)), pt.Momentum(0.1), 2, 20)
    deep, shallow = (pt.pretrain((stage,) * depth, train, seeds=[3]) for depth in (3, 2))
    assert len(deep.below(2).stages) == 2
    for one, other in zip(deep.below(2).layers, shallow.layers, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)  # type: ignore[attr-defined]


def test_a_subset_has_the_classes_in_their_shares() -> None:
    whole = digits()
    part = subset(whole, 400, None, 100)
    assert [len(batch.x) for batch in part] == [400, 300, 100]
    shares = np.bincount(np.asarray(part.train.y)) / 400 - np.bincount(np.asarray(whole.train.y)) / len(whole.train.x)
    assert np.abs(shares).max() < 2 / 400
    with pytest.raises(ValueError, match="train has 1197 rows; 2000 of them cannot be taken"):
        subset(whole, 2000)


def test_comparisons_are_those_of_the_formulas() -> None:
    random = np.random.default_rng(1)
    without, pretrained = random.normal(3.0, 0.4, 30), random.normal(2.0, 0.1, 40)
    found = claims.compare(4, without, pretrained, np.random.default_rng(0))
    variances = without.var(ddof=1) / 30, pretrained.var(ddof=1) / 40
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 29 + variances[1] ** 2 / 39)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances))
    gap = without.mean() - pretrained.mean()
    np.testing.assert_allclose(found.gap, (gap, gap - half, gap + half))
    assert found.effect == pytest.approx(gap / np.sqrt((without.var(ddof=1) + pretrained.var(ddof=1)) / 2))
    assert found.spread[0] == pytest.approx(pretrained.std(ddof=1) / without.std(ddof=1))
    assert found.spread[1] < 0.25 < found.spread[2]  # the true ratio
    assert found.spread_p < 1e-4
    assert found.rank_p < 1e-6


@pytest.mark.slow
def test_intervals_of_the_ratio_of_spreads_hold_it_as_often_as_they_say() -> None:
    held = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        without, pretrained = random.normal(0, 2, (40,)), random.normal(0, 1, (40,))
        ratio = claims.compare(1, without, pretrained, random).spread
        held.append(ratio[1] < 0.5 < ratio[2])
    assert 0.87 < np.mean(held) < 0.99  # 95%, less what a percentile bootstrap of 40 gives away


def test_the_ratio_of_spreads_knows_equal_and_stuck_errors() -> None:
    """All networks without pretraining but one at one error: a third of the resamples have no spread at all, and the
    interval has no upper end, whatever that error's rounding is.
    """
    pretrained = np.random.default_rng(0).normal(2, 0.1, 12)
    for stuck in (90.2, 88.65):
        without = np.array([stuck] * 11 + [60.0])
        ratio = claims.compare(5, without, pretrained, np.random.default_rng(0)).spread
        assert 0 < ratio[1] < ratio[0] < 1
        assert ratio[2] == np.inf
    alike = claims.compare(5, np.full(12, 90.2), pretrained, np.random.default_rng(0)).spread
    assert alike[0] == np.inf


@pytest.mark.slow
def test_a_spread_is_lower_where_interval_and_test_both_say_so() -> None:
    """Of a dozen seeds of one distribution each alone says so too often, or is read from few; and no gap of two
    constants is measured against the rounding of their means.
    """
    random = np.random.default_rng(0)
    said = 0
    for _ in range(400):
        without, pretrained = random.lognormal(size=(2, 12))
        said += "shown at no depth" not in claims.verdicts([claims.compare(1, without, pretrained, random)], None)[1]
    assert said / 400 < 0.06
    constant = claims.compare(1, np.full(6, 90.2), np.full(6, 88.65), random)
    assert constant.gap[0] == constant.gap[1] == constant.gap[2] == pytest.approx(1.55)
    assert constant.effect == np.inf


@pytest.mark.slow
def test_the_p_of_spreads_is_uniform_where_they_are_equal_and_no_less_than_permutations_allow() -> None:
    """Of normal, skewed and two-humped errors; and it agrees with the F distribution's where that holds."""
    random, n = np.random.default_rng(0), 200
    for draw in (
        lambda: random.normal(size=(2, 12)),
        lambda: random.lognormal(size=(2, 12)),
        lambda: np.where(random.random((2, 12)) < 0.3, 89.0, 2.0) + random.normal(0, 0.1, (2, 12)),
    ):
        low = np.mean([claims.brown_forsythe(*draw(), random) < 0.05 for _ in range(n)])
        assert low < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)
    half_stuck, none_stuck = np.repeat([2.0, 89.0], 6) + random.normal(0, 0.01, 12), random.normal(2, 0.01, 12)
    assert 1 / (1 + claims.RESAMPLES) <= claims.brown_forsythe(half_stuck, none_stuck, random) < 1e-3
    one, other = random.normal(0, 1.0, 60), random.normal(0, 1.4, 60)
    p = float(stats.levene(one, other, center="median").pvalue)
    assert claims.brown_forsythe(one, other, random) == pytest.approx(p, abs=0.01 + 0.1 * p)


def by_seed(values: np.ndarray) -> dict[int, float]:
    return dict(enumerate(values))


def test_growth_is_the_mean_slope_of_the_seeds_gaps() -> None:
    """By scipy's regression, seed by seed; only seeds of which there are both kinds at every depth count."""
    random = np.random.default_rng(2)
    depths = (1, 2, 3, 5)
    without = {depth: by_seed(random.normal(2.0 + 0.3 * depth, 0.1, 50)) for depth in depths}
    pretrained = {depth: by_seed(random.normal(2.0, 0.1, 20 + depth)) for depth in depths}
    found = claims.growth(without, pretrained)
    assert found is not None
    assert found.seeds == 21
    gaps = np.array([[without[depth][seed] - pretrained[depth][seed] for depth in depths] for seed in range(21)])
    slopes = [stats.linregress(depths, own).slope for own in gaps]
    interval = stats.ttest_1samp(slopes, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(found.slope, (np.mean(slopes), interval.low, interval.high))
    assert [step[:2] for step in found.steps] == [(1, 2), (2, 3), (3, 5)]
    np.testing.assert_allclose([step.mean for *_, step in found.steps], np.diff(gaps.mean(axis=0)))
    constant = {depth: by_seed(np.full(5, float(depth))) for depth in depths}
    found = claims.growth(constant, {depth: by_seed(np.full(6, 2.0)) for depth in depths})
    assert found is not None
    np.testing.assert_allclose(found.slope, (1.0, 1.0, 1.0))
    assert claims.growth({1: by_seed(np.ones(5))}, {1: by_seed(np.ones(5))}) is None
    assert claims.growth({1: {0: 1.0}, 2: {0: 1.0}}, {1: {1: 1.0}, 2: {1: 1.0}}) is None


@pytest.mark.slow
def test_intervals_of_the_growth_hold_no_growth_as_often_as_they_say() -> None:
    """Also where a seed's networks of all depths fail alike; to four standard errors."""
    n, held = 1_000, 0
    for random in map(np.random.default_rng, range(n)):
        shared = random.normal(size=8)
        without = {depth: by_seed(shared + random.normal(0, 0.3 * depth, 8)) for depth in range(1, 5)}
        found = claims.growth(without, {depth: by_seed(random.normal(size=8)) for depth in range(1, 5)})
        assert found is not None
        held += found.slope.low < 0.0 < found.slope.high
    assert abs(held / n - 0.95) < 4 * np.sqrt(0.95 * 0.05 / n)


def summaries(means: dict[str, dict[int, float]]) -> list[Summary]:
    random = np.random.default_rng(0)
    return [
        Summary(
            Row(f"{series}-{depth}", "", Published(), {}, series, depth),
            tuple(
                {"seed": seed, "finite": True, "test_error": float(e)}
                for seed, e in enumerate(mean + 0.1 * random.normal(size=20))
            ),
        )
        for series, by_depth in means.items()
        for depth, mean in by_depth.items()
    ]


def test_distributions_are_drawn(tmp_path: Path) -> None:
    found = claims.errors(summaries({"none": {1: 2.0, 2: 90.0}, "a": {1: 2.0, 2: 2.0}}))
    found = {name: {depth: list(own.values()) for depth, own in of.items()} for name, of in found.items()}
    for draw in (figures.histograms, figures.boxes):
        path = tmp_path / f"{draw.__name__}.svg"
        draw(path, "many", found, "layers", "test error, percent")  # type: ignore[arg-type]
        text = path.read_text()
        assert text.count("<path") > 20
        draw(tmp_path / "again.svg", "many", found, "layers", "test error, percent")  # type: ignore[arg-type]
        assert (tmp_path / "again.svg").read_text() == text


def test_a_series_that_has_not_run_is_left_out_of_the_figures(tmp_path: Path) -> None:
    lines = [
        {"row": "sdae-2", "seed": seed, "declaration": "", "finite": True, "test_error": 2.0 + 0.1 * seed}
        for seed in range(illustrations.MANY)
    ]
    drawn = illustrations.draw(tmp_path, "", erhan2009.EXPERIMENT, summary(erhan2009.EXPERIMENT, lines))
    assert {"boxes.svg", "histograms.svg"} <= drawn.keys()
    text = (tmp_path / "boxes.svg").read_text()
    assert "denoising autoencoders" in text
    assert "no pretraining" not in text


def test_findings_say_what_the_intervals_say() -> None:
    text = "\n".join(
        claims.findings(summaries({"none": {1: 2.0, 2: 3.0, 3: 90.0}, "a": {1: 2.0, 2: 2.0, 3: 2.0}}), "none")
    )
    assert "### a, against none" in text
    assert "- Lower mean: shown at 2, 3 of depths." in text
    assert "- Lower spread: shown at no depth." in text
    assert "| 20, 20 | 20, 0 |" in text  # stuck networks, at depth 3
    assert "- Gap growing with depth: yes; by 44." in text
    assert "(20 seeds; 1 to 2: 1." in text
    shrinks = claims.findings(summaries({"none": {1: 3.0, 2: 2.5, 3: 9.0}, "a": {1: 2.0, 2: 2.0, 3: 2.0}}), "none")
    assert any("- Gap growing with depth: on the whole, but not from 1 to 2 layers; by" in line for line in shrinks)
    assert claims.findings(summaries({"a": {1: 2.0}}), "none") == []
    rows = summaries({"none": {1: 2.0, 2: 3.0}, "a": {1: 2.0, 2: 2.0}})
    shifted = [Summary(i.row, i.results[8:] if i.row.name == "none-2" else i.results[:12]) for i in rows]
    assert not any("growing" in line for line in claims.findings(shifted, "none"))  # four seeds have both depths
    few = [Summary(item.row, item.results[:3]) for item in summaries({"none": {1: 2.0, 2: 3.0}, "a": {1: 2.0, 2: 2.0}})]
    found = claims.findings(few, "none")
    assert "- Nothing is claimed from fewer than 5 seeds of a kind, and nothing of them is tested." in found
    lines = [line for line in found if line.startswith("| ") and "layers" not in line and "---" not in line]
    assert lines
    assert all(line.endswith("|  |  |  |  |") for line in lines)

"""What the compiled update costs, by XLA's own analysis."""

import functools

import jax
import jax.numpy as jnp
import pytest

import pretrain as pt

BATCH, VISIBLE, HIDDEN = 100, 784, 500


@functools.cache
def compiled(rows: int):
    """One CD-1 update's gradient at the published size."""
    learner = pt.BernoulliRBM(HIDDEN)
    batch = pt.Batch(jax.ShapeDtypeStruct((rows, VISIBLE), jnp.float32))
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, state = jax.eval_shape(learner.init, key, batch)
    return jax.jit(learner.gradient).lower(params, state, batch, key).compile()


def test_a_cd1_update_is_five_matrix_products_and_no_more() -> None:
    """The flops are those of five products plus elementwise work: draws, logistic functions, biases, means.

    Per hidden unit of a row a draw takes some 100 integer operations (threefry: 20 rounds and the key schedule), and
    per unit of either layer less than 20 more are spent on the bias, the logistic function, the statistics and the
    reconstruction error. That is under 2% of the products, so a sixth product (20%) cannot hide in the 3%.
    """
    products = 5 * 2 * BATCH * VISIBLE * HIDDEN
    elementwise = 120 * BATCH * HIDDEN + 20 * BATCH * (VISIBLE + 2 * HIDDEN)
    flops = compiled(BATCH).cost_analysis()["flops"]
    assert products <= flops <= 1.03 * products + elementwise
    assert elementwise < 0.025 * products


@pytest.mark.parametrize(("rows", "count"), [(100, 5), (10, 4)])
def test_the_products_are_five_instructions_and_of_few_rows_four(rows: int, count: int) -> None:
    text = compiled(rows).as_text()
    products = [line for line in text.splitlines() if " dot(" in line or "__onednn$matmul" in line]
    assert len(products) == count, "\n".join(products)

"""Scikit-learn's digits: 1,797 grey images of handwritten digits, 8 x 8 pixels, in ten classes; it needs no download.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998): 32 x 32 bitmaps whose 4 x 4 blocks are counted, which gives values in 0..16. They come inside
scikit-learn, so they are there wherever it is.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from pretrain.data.splits import Splits, stratified_rows
from pretrain.types import Batch

N_VALID = N_TEST = 300
SEED = 0


def digits() -> Splits:
    """Returns the digits in a fixed, stratified split of 1,197 training, 300 validation and 300 test examples.

    There is no published split, so this one is the package's own, drawn with seed 0: each class has its share of each
    part, to within two examples, and each part keeps the rows in their original order.

    Returns:
        Batches of x ``[batch, 64]`` float32 in [0, 1] (counts / 16), y ``[batch]`` int32 in 0..9.
    """
    from sklearn.datasets import load_digits  # half a second, which only those who want digits should wait

    counts, labels = load_digits(return_X_y=True)
    x, y = (counts / 16).astype(np.float32), labels.astype(np.int32)
    train, valid, test = stratified_rows(y, (N_VALID, N_TEST), SEED)
    return Splits(*(Batch(x=jnp.asarray(x[rows]), y=jnp.asarray(y[rows])) for rows in (train, valid, test)))

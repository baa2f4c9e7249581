"""Your own data: arrays, ``.npy``, ``.npz`` and ``.csv`` files, and folders of images, as batches to train on.

Rows are flattened and become float32. Unsigned bytes are grey levels and are divided by 255, but for an array of them
that holds only 0 and 1: these, and all other numbers, are taken as they are. Labels may be numbers or words: they
become 0, 1, .. in the order of the sorted names, which are kept. A whole number of -1 is no label
(`pretrain.types.UNLABELLED`).
"""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image, UnidentifiedImageError

from pretrain.checks import check_examples
from pretrain.data.errors import BadFile
from pretrain.data.splits import Splits, classes_of, part_of, stratified_rows
from pretrain.types import UNLABELLED, Batch

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
"""Names of image files end so."""


class Examples(NamedTuple):
    """Attributes: ``batch``, all rows; ``classes``, the labels' names in order, () without labels; ``shape`` of one row
    before it was flattened.
    """

    batch: Batch
    classes: tuple[str, ...]
    shape: tuple[int, ...]

    def split(self, valid: float = 1 / 6, test: float = 1 / 6, seed: int = 0) -> Splits:
        """Divides the rows at random into training, validation and test rows, each with its share of every class,
        rounded up or down by chance. A class of few rows has at least one for training, if there are as many training
        rows as classes.

        Args:
            valid: share of the validation rows.
            test: share of the test rows; 0 leaves none.
            seed: of the split.

        Raises:
            ValueError: if a part would have no rows, or the rows have pairs by row number (`with_neighbours`).
        """
        n_rows = len(self.batch.x)
        sizes = round(valid * n_rows), round(test * n_rows)
        if sizes[0] < 1 or (test and sizes[1] < 1) or min(valid, test) < 0.0 or sum(sizes) >= n_rows:
            raise ValueError(
                f"{n_rows} rows cannot be divided into shares of {valid:.3g} for validation and {test:.3g} for "
                "testing: each part needs a row, and the training rows are what is left"
            )
        parts = stratified_rows(classes_of(self.batch), sizes, seed, fair=True)
        return Splits(*(part_of(self.batch, rows, "batch") for rows in parts))


def examples(
    source: Any, labels: Any = None, *, size: tuple[int, int] | None = None, classes: Sequence[str] = ()
) -> Examples:
    """Reads examples from wherever they are.

    Args:
        source: an array ``[rows, ...]``; a ``.npy`` file of one; a ``.npz`` file of an array ``x`` (or of one array of
            any name) and, if there are labels, ``y``; a ``.csv`` file of numbers, whose first line may name the
            columns, that of the labels ``y``; or a folder of images, which become grey: one sub-folder a class, or
            images alone, without labels. Images, and an array of uint8 with any number above 1, are divided
            by 255; uint8 numbers that are all 0 or 1 stay 0 and 1.
        labels: ``[rows]`` whole numbers or words (strings, also as objects, as a pandas column gives them), or a
            ``.npy`` file of them, where the source has none.
        size: (height, width) to which the images of a folder are scaled; None: they must all have one size.
        classes: the names there may be, in order, as another `Examples` has them; (): those that occur.

    Raises:
        BadFile: a file that cannot be read, or is not what it must be; the message names it.
        ValueError: the numbers or the labels are not such as the package can train on.
    """
    if hasattr(source, "toarray"):
        raise ValueError(f"examples must be a dense array; got a sparse {type(source).__name__}: use .toarray()")
    named = isinstance(source, str | os.PathLike)
    images = named and Path(source).is_dir()
    if named:
        x, found = _read(Path(source), size)
        if labels is not None and found is not None:
            raise ValueError(f"{source} has labels of its own: give no others")
        labels = found if labels is None else labels
    else:
        x = np.asarray(source)
    if size is not None and not images:
        raise ValueError(f"size={size} is for folders of images; an array has its size: scale it first")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"examples must be numbers; got an array of {x.dtype}")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"examples must have shape [rows, ...] with at least one row and feature; got {x.shape}")
    rows = x.reshape(len(x), -1).astype(np.float32)
    rows = rows / np.float32(255) if x.dtype == np.uint8 and (images or x.max() > 1) else rows
    check_examples(rows)
    if isinstance(labels, str | os.PathLike):
        labels = _array(Path(labels))
    y, names = (None, tuple(classes)) if labels is None else _numbered(np.asarray(labels), len(x), tuple(classes))
    return Examples(Batch(jnp.asarray(rows), None if y is None else jnp.asarray(y)), names, x.shape[1:])


def _numbered(labels: np.ndarray, n_rows: int, classes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as 0, 1, .., and their names."""
    if labels.shape != (n_rows,):
        raise ValueError(f"labels must have shape ({n_rows},), one a row; got {labels.shape}")
    if labels.dtype.kind == "f" and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "O":
        if strange := [label for label in labels if not isinstance(label, str)]:
            raise ValueError(
                f"labels of type object must all be strings; got {strange[0]!r}: give whole numbers as an array of "
                f"integers, {UNLABELLED} where there is none"
            )
        labels = labels.astype(str)
    if labels.dtype.kind not in "biuUS":
        raise ValueError(f"labels must be whole numbers or words; got {labels.dtype}")
    if labels.dtype.kind == "S":
        labels = labels.astype(str)
    unlabelled = labels == UNLABELLED if labels.dtype.kind == "i" else np.zeros(n_rows, bool)
    values = np.unique(labels[~unlabelled])
    if len(values) == 0:
        raise ValueError(f"all {n_rows} labels are {UNLABELLED}, which is none: leave them out")
    names = classes or tuple(str(value) for value in values)
    if strange := sorted({str(value) for value in values} - set(names)):
        raise ValueError(f"there is no class {', '.join(strange)}: known are {', '.join(names)}")
    number = {name: index for index, name in enumerate(names)}
    numbers = [UNLABELLED if none else number[str(label)] for label, none in zip(labels, unlabelled, strict=True)]
    return np.array(numbers, np.int32), names


def _read(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, Any]:
    """The array of a file or folder, and its labels or None."""
    if path.is_dir():
        return _folder(path, size)
    if not path.exists():
        raise BadFile(f"there is no file or folder {path}")
    if path.suffix == ".npy":
        return _array(path), None
    if path.suffix == ".csv":
        return _table(path)
    if path.suffix != ".npz":
        raise BadFile(f"{path} is none of what can be read: a .npy, .npz or .csv file, or a folder of images")
    with _opened(path) as file:
        names = list(file.files)
        name = "x" if "x" in names else names[0] if len(names) == 1 else None
        if name is None or set(names) - {name, "y"}:
            raise BadFile(f"{path} must hold an array x and, if there are labels, y; it holds {', '.join(names)}")
        return _entry(path, file, name), _entry(path, file, "y") if "y" in names else None


def _table(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers of a ``.csv`` file ``[rows, features]``, and the column that its first line calls ``y``, or None."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next(csv.reader(file), [])
        if not first:
            raise ValueError("it has no rows")
        named = not all(map(_is_number, first))
        label = first.index("y") if named and "y" in first else None
        columns = [column for column in range(len(first)) if column != label]
        how: Any = {
            "delimiter": ",",
            "quotechar": '"',
            "comments": None,
            "skiprows": int(named),
            "encoding": "utf-8-sig",
        }
        x = np.loadtxt(path, np.float32, usecols=columns, ndmin=2, **how)
        y = None if label is None else np.loadtxt(path, str, usecols=label, ndmin=1, **how)
    except (ValueError, OSError, csv.Error) as error:
        raise BadFile(f"{path} cannot be read: {error} (a column of labels is named y in the first line)") from error
    return x, y.astype(float) if y is not None and all(map(_is_number, y)) else y


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _opened(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadFile(f"{path} cannot be read: {error}") from error


def _entry(path: Path, file: Any, name: str) -> np.ndarray:
    try:
        return file[name]
    except Exception as error:  # zip, zlib and header errors of many classes
        raise BadFile(f"{name} in {path} cannot be read: {error}") from error


def _array(path: Path) -> np.ndarray:
    found = _opened(path)
    if not isinstance(found, np.ndarray):
        raise BadFile(f"{path} must be a .npy file of one array")
    return found


def _folder(folder: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a folder, ``[rows, height, width]`` bytes, in the order of their names; and their sub-folders."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES and _shown(path, folder))
    if not files:
        raise BadFile(f"there are no images ({', '.join(IMAGES)}) in {folder}")
    below = [path.relative_to(folder).parts[:-1] for path in files]
    if len({bool(parts) for parts in below}) == 2:
        lone = files[[bool(parts) for parts in below].index(False)]
        raise BadFile(f"{folder} has images in sub-folders, one a class, and beside them, like {lone.name}: move these")
    rows: list[np.ndarray] = []
    for file in files:
        rows.append(_grey(file, size))
        (height, width), own = rows[0].shape, rows[-1].shape
        if own != (height, width):
            raise BadFile(
                f"{files[0]} has {height * width} pixels ({height} x {width}), {file} {own[0]} x {own[1]}: give a size "
                "(height, width) to scale all to"
            )
    return np.stack(rows), np.array([parts[0] for parts in below]) if below[0] else None


def _shown(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _grey(file: Path, size: tuple[int, int] | None) -> np.ndarray:
    """An image's grey levels ``[height, width]``, scaled to a size if there is one."""
    try:
        with Image.open(file) as picture:
            if picture.mode.startswith(("I", "F")):
                raise BadFile(f"{file} has more than 8 bits a pixel: convert it to 8, or give an array")
            grey = picture.convert("L")
    except UnidentifiedImageError as error:
        raise BadFile(f"{file} is no image that can be read: {error}") from error
    except OSError as error:
        raise BadFile(f"{file} is damaged: {error}") from error
    if size is not None and grey.size != (size[1], size[0]):
        grey = grey.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(grey)

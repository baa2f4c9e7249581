"""Small NORB: 48,600 stereo pairs of grey images, 96 x 96 pixels, of 50 toys in five categories.

Y. LeCun, F. J. Huang and L. Bottou, "Learning methods for generic object recognition with invariance to pose and
lighting", CVPR 2004. For research use; it may not be sold.

The set is six files (`pretrain.data.matrix`): images, categories and info of a training and of a test part of 24,300
pairs each. Of every category five objects (instances) are in the training part and five others in the test part, each
seen in 972 poses: 9 elevations, 18 azimuths, 6 lightings. The test part is ordered by object, so its first rows are one
object of each category. How pairs are held out: `pretrain.data.norb_splits`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from pretrain.data.errors import BadFile, DataUnavailable
from pretrain.data.matrix import find_matrix, read_matrix
from pretrain.data.norb_splits import N_CATEGORIES, HoldOut, NorbPairs, Pairs, splits
from pretrain.data.prepared import prepared_folder, read_split, require_prepared
from pretrain.data.sources import Say, one_line, say_on_stderr
from pretrain.data.splits import Splits
from pretrain.data.stereo import shrunk

KINDS = ("dat", "cat", "info")
"""The files of a part: images, categories, and for each image (instance, elevation, azimuth, lighting)."""

N_VALID = 4_300
"""Training pairs that are held out for validation."""

HOME = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"


class Published(NamedTuple):
    """What a part of the data set must be.

    Attributes:
        prefix: what its files' names begin with.
        instances: its objects, by their numbers within a category.
        n_poses: pairs of each object.
        side: of an image, in pixels.
    """

    prefix: str
    instances: tuple[int, ...]
    n_poses: int = 972
    side: int = 96

    @property
    def n_rows(self) -> int:
        """Its pairs."""
        return N_CATEGORIES * len(self.instances) * self.n_poses

    def file(self, kind: str) -> str:
        """The name of its file of one of the `KINDS`."""
        return f"{self.prefix}-{kind}.mat"


PUBLISHED = (
    Published("smallnorb-5x46789x9x18x6x2x96x96-training", (4, 6, 7, 8, 9)),
    Published("smallnorb-5x01235x9x18x6x2x96x96-testing", (0, 1, 2, 3, 5)),
)
"""The training and the test part."""


def norb(
    data_dir: str | Path | None = None,
    *,
    prepare: Callable[[NDArray[np.uint8]], Any] = shrunk,
    hold_out: HoldOut = "instance",
    seed: int = 0,
    n_train: int | None = None,
    n_valid: int | None = None,
    n_test: int | None = None,
    test_objects: Collection[int] = (),
    say: Say = say_on_stderr,
) -> Splits:
    """Returns small NORB, prepared a block of rows at a time; its sources are those of `norb_pairs`.

    Args:
        data_dir: a folder that holds the files; then no other place is tried.
        prepare: maps ``[rows, 2, 96, 96]`` grey levels, uint8, to features ``[rows, ...]``: `pretrain.data.shrunk`,
            `pretrain.data.foveated`, or one's own.
        hold_out: which 4,300 training pairs validate. ``random`` leaks the object, see above; ``instance`` does not;
            ``nothing`` leaves the validation part without rows.
        seed: of the split and of subsets.
        n_train: so many of the pairs left to train on, with equal shares of categories and objects; None: all.
        n_valid: likewise of the 4,300 held out.
        n_test: likewise of the test pairs: the 24,300 published ones, or 4,860 of each of the ``test_objects``.
        test_objects: of every category these training objects (of 4, 6, 7, 8, 9) are tested on, and nothing else is
            done with them: to choose between methods while the published test pairs stay unseen. (): those are.
        say: takes one line of text for each place tried; by default it is printed on the standard error stream.

    Returns:
        Batches: x ``[batch, features]`` float32, y ``[batch]`` int32 in 0..4; rows in their original order. By default
        2,048 features in [0, 1].

    Raises:
        DataUnavailable: see `norb_pairs`.
        BadFile: likewise.
        ValueError: ``hold_out`` is none of the three, a part has fewer pairs than are asked for, or ``test_objects``
            are no training objects, or leave too few.
    """
    if hold_out not in get_args(HoldOut):
        raise ValueError(f"hold_out must be one of {get_args(HoldOut)}; got {hold_out!r}")
    if hold_out == "nothing" and n_valid is not None:
        raise ValueError(f"n_valid is {n_valid:,}, but nothing is held out: leave it away, or choose another hold_out")
    pairs = norb_pairs(data_dir, say=say)
    return splits(pairs, prepare, hold_out, seed, n_train, n_valid, n_test, N_VALID, test_objects)


def norb_pairs(data_dir: str | Path | None = None, *, say: Say = say_on_stderr) -> NorbPairs:
    """Returns the pairs and all that is known of them, from the first of these places that has them.

    1. A folder that the user names, by ``data_dir`` or else the environment variable ``PRETRAIN_DATA``: the six files
       in it or in its ``norb`` subfolder, plain (their images stay on the disk until they are looked at) or .gz (900 MB
       of memory).
    2. A directory that tensorflow-datasets has prepared (900 MB of memory).

    There are copies of other pixels and unknown poses, so no checksum is asked for; categories and objects are checked
    against what was published.

    Args:
        data_dir: a folder that holds the files; then no other place is tried.
        say: takes one line of text for each place tried.

    Raises:
        DataUnavailable: ``data_dir`` lacks the files; or no place has them, and the message says where they are had.
        BadFile: a folder that the user named holds a file that is not of the published form.
    """
    return load(data_dir, PUBLISHED, say)


def load(data_dir: str | Path | None, published: tuple[Published, Published], say: Say) -> NorbPairs:
    """As `norb_pairs`, of any such data set."""
    names = ", ".join(part.file(kind) for part in published for kind in KINDS)
    remedy = (
        f"NORB is published, for research use only, at {HOME} (LeCun, Huang & Bottou, CVPR 2004): place {names}, plain "
        "or with .gz, in a folder and name it by data_dir, --data-dir or PRETRAIN_DATA"
    )
    failures = []
    for name, fetch, fatal in places(data_dir, published):
        try:
            pairs = fetch()
        except Exception as error:  # tensorflow-datasets raises what it likes
            if isinstance(error, fatal):
                raise type(error)(f"norb: {name}: {error}. {remedy}") from error
            say(f"norb: {name}: {one_line(error)}")
            failures.append(f"  {len(failures) + 1}. {name}: {one_line(error)}.")
            continue
        poses = (pose for part in pairs for pose in (part.elevation, part.azimuth, part.lighting))
        unknown = "; a copy without poses" if all((pose == -1).all() for pose in poses) else ""
        say(f"norb: loaded from {name}, categories and objects verified{unknown}")
        return pairs
    summary = "\n".join(failures)
    raise DataUnavailable(f"norb could not be loaded; each source failed, for its own reason:\n{summary}\n{remedy}")


Place = tuple[str, Callable[[], NorbPairs], tuple[type[Exception], ...]]
"""A source: its name, what reads it, and the errors after which no other is tried."""


def places(data_dir: str | Path | None, published: tuple[Published, Published]) -> list[Place]:
    """Returns the places to try, in order.

    Of a folder given as an argument every failure is the user's to know. ``PRETRAIN_DATA`` may be set for another data
    set's sake, so there only a file that is present and bad ends the search.
    """
    prepared = ("a prepared tensorflow-datasets directory", partial(from_prepared, published), ())
    folder = data_dir if data_dir is not None else os.environ.get("PRETRAIN_DATA") or None
    if folder is None:
        return [("a folder named by data_dir or PRETRAIN_DATA", no_folder, ()), prepared]
    how, fatal = ("data_dir", DataUnavailable) if data_dir is not None else ("PRETRAIN_DATA", BadFile)
    read = partial(from_folder, Path(folder).expanduser(), published)
    return [(f"the folder {folder} ({how})", read, (fatal,)), prepared]


def no_folder() -> NorbPairs:
    """Raises DataUnavailable: the user named no folder."""
    raise DataUnavailable("none was named")


def from_folder(folder: Path, published: tuple[Published, Published]) -> NorbPairs:
    """Reads and checks the six files; of plain ones the images are mapped, not read."""
    if not folder.is_dir():
        raise DataUnavailable(f"{folder} is not a folder")
    parts = []
    paths = [{kind: find_matrix(folder, part.file(kind), "norb") for kind in KINDS} for part in published]
    for part, path in zip(published, paths, strict=True):
        images = read_matrix(path["dat"], (part.n_rows, 2, part.side, part.side), np.uint8)
        category = np.array(read_matrix(path["cat"], (part.n_rows,), "<i4"), np.int32)
        info = np.array(read_matrix(path["info"], (part.n_rows, 4), "<i4"), np.int32)
        check(category, info, part, str(path["cat"]), str(path["info"]))
        parts.append(Pairs(images, category, *info.T))
    return NorbPairs(*parts)


def from_prepared(published: tuple[Published, Published]) -> NorbPairs:
    """Reads and checks a directory that tensorflow-datasets has prepared; there azimuths are halved: 0..17."""
    folder = prepared_folder()
    require_prepared("smallnorb", folder)
    parts = []
    for split, part in zip(("train", "test"), published, strict=True):
        images = np.empty((part.n_rows, 2, part.side, part.side), np.uint8)
        category, info = np.empty(part.n_rows, np.int32), np.empty((part.n_rows, 4), np.int32)
        fields = {"image": images[:, 0], "image2": images[:, 1], "label_category": category}
        labels = ("instance", "label_elevation", "label_azimuth", "label_lighting")
        read_split("smallnorb", split, fields | dict(zip(labels, info.T, strict=True)), folder)
        info[:, 2] *= 2
        where = f"{folder / 'smallnorb'}, {split}"
        check(category, info, part, f"{where}, label_category", f"{where}, instance and pose")
        parts.append(Pairs(images, category, *info.T))
    return NorbPairs(*parts)


def check(
    category: NDArray[np.int32], info: NDArray[np.int32], part: Published, category_file: str, info_file: str
) -> None:
    """Checks categories and info ``[rows, 4]`` against what was published, and against each other.

    Raises:
        BadFile: they differ; the message names the file.
    """
    if len(wrong := np.flatnonzero((category < 0) | (category >= N_CATEGORIES))):
        raise BadFile(
            f"{category_file}: category {category[wrong[0]]} in row {wrong[0]}, expected 0..{N_CATEGORIES - 1}: fetch "
            "it again"
        )
    counts, expected = np.bincount(category, minlength=N_CATEGORIES), part.n_rows // N_CATEGORIES
    if len(wrong := np.flatnonzero(counts != expected)):
        raise BadFile(
            f"{category_file}: {counts[wrong[0]]:,} rows of category {wrong[0]}, expected {expected:,} of each: fetch "
            "it again"
        )
    instance = info[:, 0]
    if len(wrong := np.flatnonzero(~np.isin(instance, part.instances))):
        raise BadFile(
            f"{info_file}: instance {instance[wrong[0]]} in row {wrong[0]}, expected one of {part.instances}: is it "
            "the other part's? Fetch it again"
        )
    for kind in range(N_CATEGORIES):
        counts = np.bincount(instance[category == kind], minlength=10)
        if len(wrong := [each for each in part.instances if counts[each] != part.n_poses]):
            raise BadFile(
                f"{info_file}: {counts[wrong[0]]:,} rows of instance {wrong[0]} in category {kind}, expected "
                f"{part.n_poses:,}: it and {category_file} do not belong together: fetch both again"
            )
    for column, name, limit in ((1, "elevation", 9), (2, "azimuth", 36), (3, "lighting", 6)):
        values = info[:, column]
        if len(wrong := np.flatnonzero((values < -1) | (values >= limit))):
            raise BadFile(
                f"{info_file}: {name} {values[wrong[0]]} in row {wrong[0]}, expected 0..{limit - 1}, or -1 where it is "
                "not known: fetch it again"
            )

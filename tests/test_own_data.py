"""Your own data: arrays, files and folders of images become batches; `fit` and `predict` on them; what is refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csr_matrix

import pretrain as pt
from benchmarks.__main__ import command
from benchmarks.own_data import stages
from pretrain.data import BadFile, examples

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.RandomState(0).randint(0, 256, (12, 4, 3)).astype(np.uint8)
WORDS = np.array(["pear", "apple", "fig"] * 4)


def test_bytes_become_unit_rows_and_words_numbers() -> None:
    found = examples(X, WORDS)
    np.testing.assert_array_equal(found.batch.x, (X.reshape(12, 12) / np.float32(255)).astype(np.float32))
    assert found.batch.x.dtype == np.float32
    assert (found.classes, found.shape) == (("apple", "fig", "pear"), (4, 3))
    np.testing.assert_array_equal(found.batch.y, [2, 0, 1] * 4)


def test_other_numbers_stay_as_they_are() -> None:
    np.testing.assert_array_equal(examples(X.astype(np.int64)).batch.x, X.reshape(12, 12))
    np.testing.assert_array_equal(examples(X > 100).batch.x, (X > 100).reshape(12, 12))
    assert examples(X).batch.y is None


def test_bytes_of_zeros_and_ones_are_no_grey_levels(tmp_path: Path) -> None:
    binary = (X > 100).astype(np.uint8)
    np.testing.assert_array_equal(examples(binary).batch.x, binary.reshape(12, 12))
    (tmp_path / "dark").mkdir()
    Image.fromarray(binary[0]).save(tmp_path / "dark" / "a.png")
    np.testing.assert_array_equal(examples(tmp_path / "dark").batch.x[0] * 255, binary[0].reshape(12))


def test_strings_as_objects_are_words() -> None:
    found = examples(X, WORDS.astype(object))
    assert found.classes == ("apple", "fig", "pear")
    np.testing.assert_array_equal(found.batch.y, [2, 0, 1] * 4)


def test_numbers_as_labels_keep_their_names_and_minus_one_is_none() -> None:
    found = examples(X, [10, 9, -1] * 4)
    assert found.classes == ("9", "10")  # in the order of numbers, not of words
    np.testing.assert_array_equal(found.batch.y, [1, 0, -1] * 4)
    again = examples(X[:2], [9, 9], classes=found.classes)
    np.testing.assert_array_equal(again.batch.y, [0, 0])


def test_files_hold_what_arrays_do(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", WORDS)
    np.savez(tmp_path / "both.npz", x=X, y=WORDS)
    np.savez_compressed(tmp_path / "one.npz", pixels=X)
    expected = examples(X, WORDS)
    for found in (examples(tmp_path / "x.npy", tmp_path / "y.npy"), examples(str(tmp_path / "both.npz"))):
        np.testing.assert_array_equal(found.batch.x, expected.batch.x)
        np.testing.assert_array_equal(found.batch.y, expected.batch.y)
        assert found[1:] == expected[1:]
    np.testing.assert_array_equal(examples(tmp_path / "one.npz").batch.x, expected.batch.x)


def drawn(folder: Path, *, mode: str = "L", size: tuple[int, int] = (4, 3)) -> Path:
    """Twelve images in three sub-folders; pixels are those of `X`."""
    for row, word in enumerate(WORDS):
        (folder / word).mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(X[row]).convert(mode).resize(size[::-1])
        pixels.save(folder / word / f"{row:02d}.png")
    return folder


def test_a_table_holds_a_row_a_line_and_labels_under_their_name(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text('\ufeffwide,y,"a, b"\n1,cat,2\n3.5,dog,-4e-1\n0,cat,7\n', encoding="utf-8")
    found = examples(path)
    np.testing.assert_array_equal(found.batch.x, np.float32([[1, 2], [3.5, -0.4], [0, 7]]))
    assert found.classes == ("cat", "dog")
    assert np.asarray(found.batch.y).tolist() == [0, 1, 0]
    path.write_text("1,2\n3,4\n")
    assert examples(path).batch.y is None
    np.testing.assert_array_equal(examples(path).batch.x, np.float32([[1, 2], [3, 4]]))
    path.write_text("a,y\n1,3\n2,-1\n5,1e1\n")
    assert examples(path).classes == ("3", "10")  # numbers in the order of numbers
    assert np.asarray(examples(path).batch.y).tolist() == [0, -1, 1]
    for text, message in {
        "1,2\n3\n": r"my\.csv cannot be read: .*row 2",
        "1,2\n3,four\n": r"my\.csv cannot be read: .*four.*labels is named y",
        "": r"my\.csv cannot be read: it has no rows",
    }.items():
        path.write_text(text)
        with pytest.raises(BadFile, match=message):
            examples(path)


def test_a_folder_of_images_is_read_by_class(tmp_path: Path) -> None:
    found = examples(drawn(tmp_path / "grey"))
    order = [row for word in ("apple", "fig", "pear") for row in np.flatnonzero(word == WORDS)]
    np.testing.assert_array_equal(found.batch.x * 255, X[order].reshape(12, 12))
    np.testing.assert_array_equal(found.batch.y, np.repeat([0, 1, 2], 4))
    assert (found.classes, found.shape) == (("apple", "fig", "pear"), (4, 3))
    coloured = examples(drawn(tmp_path / "colour", mode="RGB"))  # grey pixels in three channels are as grey as before
    np.testing.assert_array_equal(coloured.batch.x, found.batch.x)
    alone = examples(tmp_path / "grey" / "fig")
    assert alone.batch.y is None
    np.testing.assert_array_equal(alone.batch.x, found.batch.x[4:8])


def test_images_are_scaled_when_asked(tmp_path: Path) -> None:
    folder = drawn(tmp_path)
    Image.fromarray(np.full((8, 8), 51, np.uint8)).save(folder / "fig" / "large.png")
    with pytest.raises(BadFile, match=r"12 pixels \(4 x 3\).* 8 x 8: give a size"):
        examples(folder)
    found = examples(folder, size=(6, 5))
    assert (found.shape, found.batch.x.shape) == ((6, 5), (13, 30))
    np.testing.assert_allclose(found.batch.x[8], 0.2, rtol=1e-6)  # a flat image stays flat


def test_every_class_has_its_share_of_every_part() -> None:
    many = examples(np.arange(600.0).reshape(300, 2), [0] * 180 + [1] * 120)
    parts = many.split(valid=0.2, test=0.1, seed=3)
    assert [len(part.x) for part in parts] == [210, 60, 30]
    assert [np.bincount(part.y).tolist() for part in parts] == [[126, 84], [36, 24], [18, 12]]
    rows = np.concatenate([np.asarray(part.x[:, 0]) // 2 for part in parts])
    assert sorted(rows) == list(range(300))
    assert len(many.split(test=0.0).test.x) == 0
    assert examples(np.zeros((30, 2))).split().train.y is None


def test_a_rare_class_has_a_training_row_and_the_seed_draws_its_others() -> None:
    rare = examples(np.zeros((60, 2)), [0] * 58 + [1] * 2)
    counts = {tuple(int((part.y == 1).sum()) for part in rare.split(seed=seed)) for seed in range(12)}
    assert all(train >= 1 for train, _, _ in counts)
    assert len(counts) > 1


@pytest.mark.parametrize(
    ("source", "labels", "message"),
    [
        (np.zeros(3), None, r"shape \[rows, ...\].*\(3,\)"),
        (np.zeros((0, 2)), None, "at least one row"),
        (np.array([["a", "b"]]), None, "must be numbers"),
        (np.array([[0.0, np.nan]]), None, "1 values that are NaN"),
        (X, [0, 1], r"shape \(12,\)"),
        (X, np.arange(12) + 0.5, "whole numbers or words"),
        (X, [-1] * 12, "which is none"),
        (X, np.array([*WORDS[:11], np.nan], object), "must all be strings; got nan"),
        (csr_matrix(X[0]), None, r"a sparse csr_matrix: use \.toarray\(\)"),
        ("nowhere.npz", None, "no file or folder nowhere.npz"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(source: object, labels: object, message: str) -> None:
    with pytest.raises((ValueError, BadFile), match=message):
        examples(source, labels)


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "three.npz", a=X, b=X, y=WORDS)
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "table.tsv").write_text("1,2\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    mixed = drawn(tmp_path / "mixed")
    Image.fromarray(X[0]).save(mixed / "lone.png")
    deep = tmp_path / "deep"
    deep.mkdir()
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(deep / "a.png")
    for name, message in {
        "three.npz": "three.npz must hold an array x.*holds a, b, y",
        "objects.npy": "objects.npy cannot be read",
        "cut.npz": "cut.npz cannot be read",
        "table.tsv": "table.tsv is none of what can be read",
        "empty": "no images .*empty",
        "broken": "a.png is no image",
        "mixed": "lone.png: move these",
        "deep": "a.png has more than 8 bits",
    }.items():
        with pytest.raises(BadFile, match=message):
            examples(tmp_path / name)
    np.savez(tmp_path / "both.npz", x=X, y=WORDS)
    with pytest.raises(ValueError, match="labels of its own"):
        examples(tmp_path / "both.npz", WORDS)
    with pytest.raises(ValueError, match="folders of images"):
        examples(X, size=(2, 2))


def test_too_few_rows_cannot_be_divided() -> None:
    for shares in ((0.6, 0.4), (0.01, 0.1), (0.2, -0.1)):
        with pytest.raises(ValueError, match="cannot be divided"):
            examples(np.zeros((10, 2))).split(*shares)


def test_a_stack_is_written_from_the_bottom_up() -> None:
    found = stages("standardise,gaussian-rbm:30,sparse:20,pca:5", 7, 10, None)
    kinds = [pt.Standardise, pt.RBM, pt.Autoencoder, pt.PCA]
    assert all(isinstance(stage.learner, kind) for stage, kind in zip(found, kinds, strict=True))
    assert isinstance(found[2].learner.penalty, pt.KLSparsity)
    assert [stage.epochs for stage in found] == [0, 7, 7, 0]
    assert stages("rbm:3", 1, 1, 0.7)[0].optimizer.learning_rate == 0.7


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 8 x 8 digits as bytes, their labels as words."""
    path = tmp_path_factory.mktemp("own") / "my.npz"
    data = pt.data.digits()
    x = np.concatenate([np.asarray(part.x) for part in data]).reshape(-1, 8, 8)
    words = np.array([f"digit {label}" for part in data for label in np.asarray(part.y)])
    np.savez(path, x=np.round(255 * x).astype(np.uint8), y=words)
    return path


@pytest.fixture(scope="module")
def labelled(digits_file: Path, quick_compilation: None) -> Path:
    """Their folder, and in it a network of them."""
    folder = digits_file.parent
    sizes = ["--epochs", "10", "--tuning-epochs", "25", "--tuning-rates", "0.3,1"]
    words_ = ["fit", "--data", str(digits_file), "--stack", "rbm:64,denoising:48", "--out", str(folder / "net")]
    assert command([*words_, *sizes]) == 0
    return folder


@pytest.mark.slow
def test_fit_keeps_a_network_that_predict_uses(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = json.loads((labelled / "net" / "about.json").read_text())
    assert about["classes"] == [f"digit {number}" for number in range(10)]
    assert about["rows"] == {"train": 1197, "valid": 300, "test": 300}
    assert about["tuning_rate"] in (0.3, 1.0)
    assert {path.suffix for path in (labelled / "net").iterdir()} == {".npz", ".json", ".png"}
    found = examples(labelled / "my.npz")
    network = pt.load(labelled / "net" / "network.npz")
    error = pt.evaluate(network, found.split().test)
    assert error == pytest.approx(about["errors_percent"]["test"])
    assert error < 8.0  # guessing has 90
    capsys.readouterr()
    assert command(["predict", "--net", str(labelled / "net"), "--data", str(labelled / "my.npz")]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [found.classes[label] for label in pt.predict(network, found.batch.x)]
    assert f"1,797 labelled rows, error {pt.evaluate(network, found.batch):.2f}%" in printed.err


@pytest.mark.slow
def test_without_labels_predict_gives_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.RandomState(1).randn(60, 6) * 3 + 5)
    options = ["--stack", "standardise,gaussian-rbm:4", "--epochs", "2", "--test", "0"]
    assert command(["fit", "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "net"), *options]) == 0
    out = tmp_path / "codes.csv"
    assert (
        command(["predict", "--net", str(tmp_path / "net"), "--data", str(tmp_path / "x.npy"), "--out", str(out)]) == 0
    )
    codes = np.loadtxt(out, delimiter=",")
    expected = pt.encode(pt.load(tmp_path / "net" / "network.npz"), np.load(tmp_path / "x.npy").astype(np.float32))
    np.testing.assert_allclose(codes, expected, rtol=1e-5)
    assert codes.shape == (60, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stack", "rmb:20"], "did you mean 'rbm'"),
        (["--stack", "rbm"], "written kind:units, like rbm:500"),
        (["--stack", "rbm:20", "--size", "8x8"], "is for folders of images"),
        (["--stack", "rbm:20", "--size", "8"], "HEIGHTxWIDTH"),
        (["--stack", "rbm:20", "--tuning-rates", "fast"], "--tuning-rates are numbers"),
        (["--stack", "gaussian-rbm:20"], r"put a Standardise\(\) stage below"),
        (["--stack", "rbm:20", "--batch-size", "5000"], "batch_size 5000 is larger"),
        (["--stack", "rbm:20", "--valid", "1"], "cannot be divided"),
    ],
)
def test_what_a_user_got_wrong_is_said_in_words(
    digits_file: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["fit", "--data", str(digits_file), "--out", str(tmp_path / "net"), *words]) == 2
    found = capsys.readouterr().err
    assert re.search(message, found)
    assert not (tmp_path / "net").exists()


def test_where_results_cannot_go_is_said_before_anything_is_done(
    digits_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", "--data", str(digits_file), "--stack", "rbm:20", "--out", str(digits_file / "net")]
    assert command(words) == 2
    assert "my.npz is no folder that can be written to" in capsys.readouterr().err
    words = ["predict", "--net", str(tmp_path), "--data", str(digits_file), "--out", str(tmp_path / "absent" / "y.csv")]
    assert command(words) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_label_of_minus_one_is_none_and_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-1 and 1 are not two classes."""
    x = np.random.default_rng(0).random((60, 4))
    np.savez(tmp_path / "my.npz", x=x, y=np.where(x[:, 0] > 0.5, 1, -1))
    assert command(["fit", "--data", str(tmp_path / "my.npz"), "--stack", "rbm:3", "--out", str(tmp_path / "n")]) == 2
    assert "needs two classes; all labels are one, but for -1, which is none" in capsys.readouterr().err


@pytest.mark.slow
def test_predict_refuses_what_does_not_fit(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "narrow.npy", np.zeros((3, 7), np.uint8))
    np.savez(tmp_path / "strange.npz", x=np.zeros((1, 8, 8), np.uint8), y=np.array(["digit 10"]))
    for net, data, message in [
        (tmp_path, labelled / "my.npz", "holds no network that `fit` made"),
        (labelled / "net", tmp_path / "narrow.npy", "takes 64 features; x has 7"),
        (labelled / "net", tmp_path / "strange.npz", "no class digit 10"),
    ]:
        assert command(["predict", "--net", str(net), "--data", str(data)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "about.json").write_text((labelled / "net" / "about.json").read_text())
    assert command(["predict", "--net", str(tmp_path), "--data", str(labelled / "my.npz")]) == 2
    assert "holds no network that `fit` made: there is no network.npz" in capsys.readouterr().err


@pytest.mark.slow
def test_predict_refuses_values_in_other_units(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.load(labelled / "my.npz")["x"]
    assert json.loads((labelled / "net" / "about.json").read_text())["range"] == [0.0, 1.0]
    for name, rows, code in (("grey", x.astype(np.float32), 2), ("unit", x / 255.0, 0)):
        np.save(labelled / f"{name}.npy", rows)
        assert command(["predict", "--net", str(labelled / "net"), "--data", str(labelled / f"{name}.npy")]) == code
        found = capsys.readouterr()
        told = ("lie in 0 to 255", "net was fitted to in 0 to 1: give both in the same units")
        assert [words in found.err for words in told] == [code == 2] * 2
        assert len(found.out.splitlines()) == (0 if code else len(x))


def few_labels(folder: Path, n_labels: int) -> list[str]:
    """The words that fit a stack to 200 digits, of which so many have labels."""
    train = pt.data.digits().train
    y = np.where(np.arange(200) < n_labels, np.asarray(train.y[:200]) % 2, -1)
    np.savez(folder / "few.npz", x=np.asarray(train.x[:200]), y=y)
    words = ["fit", "--data", str(folder / "few.npz"), "--stack", "rbm:4", "--out", str(folder / "net")]
    return [*words, "--epochs", "1", "--tuning-epochs", "2", "--tuning-rates", "0.3"]


@pytest.mark.slow
def test_fewer_labels_than_a_minibatch_are_fine_tuned_on(tmp_path: Path) -> None:
    assert command([*few_labels(tmp_path, 18), "--batch-size", "50"]) == 0
    about = json.loads((tmp_path / "net" / "about.json").read_text())
    assert about["tuning_batch_size"] < 18
    assert set(about["errors_percent"]) == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("n_labels", "words", "message"),
    [
        (1, [], "fine-tuning needs labelled rows for training and for validation; got 1 and 0: label more"),
        (18, ["--tuning-epochs", "0"], "epochs must be a whole number of at least 1; got 0"),
    ],
)
def test_what_fine_tuning_lacks_is_found_before_a_layer_is_trained(
    n_labels: int, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(pt, "pretrain", lambda *_, **__: pytest.fail("a layer is trained"))
    assert command([*few_labels(tmp_path, n_labels), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``... predict | head -1`` ends without a traceback: what is left goes nowhere."""
    with (tmp_path / "pipe").open("w") as pipe:

        class Closed:
            def write(self, _: str) -> None:
                raise BrokenPipeError

            def fileno(self) -> int:
                return pipe.fileno()

        monkeypatch.setattr(sys, "stdout", Closed())
        assert command(["predict", "--net", str(labelled / "net"), "--data", str(labelled / "my.npz")]) == 1
        pipe.write("more")  # where the process's own buffers would end up
    assert (tmp_path / "pipe").read_text() == ""
    assert "Traceback" not in capsys.readouterr().err

"""The digits example really learns from the shipped data, repeats itself, stops when told, complains in one line."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO
from xml.etree import ElementTree as ET

import msgspec
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
OUTPUTS = ["curve.svg", "metrics.json", "model.json"]
SVG = "{http://www.w3.org/2000/svg}"
WAIT_S = 60

pytestmark = pytest.mark.integration


class Epoch(msgspec.Struct, forbid_unknown_fields=True):
    epoch: int
    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float


class Unseen(msgspec.Struct, forbid_unknown_fields=True):
    digits: int
    right: int
    confusion: list[list[int]]


class Metrics(msgspec.Struct, forbid_unknown_fields=True):
    settings: dict[str, float]
    finished: bool
    steps: int
    learnt_from: int
    epochs: list[Epoch]
    unseen: Unseen


class Layer(msgspec.Struct, forbid_unknown_fields=True):
    activation: str
    weights: list[list[float]]
    biases: list[float]

    def scores(self, values: list[float]) -> list[float]:
        return [
            sum(w * v for w, v in zip(row, values, strict=True)) + bias
            for row, bias in zip(self.weights, self.biases, strict=True)
        ]


class Model(msgspec.Struct, forbid_unknown_fields=True):
    pixels_divided_by: int
    layers: tuple[Layer, Layer]

    def read(self, pixels: list[int]) -> int:
        hidden = [max(0.0, score) for score in self.layers[0].scores([p / self.pixels_divided_by for p in pixels])]
        scores = self.layers[1].scores(hidden)
        return scores.index(max(scores))


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLE / "train.py"), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=WAIT_S, check=False)


def metrics_of(out: Path) -> Metrics:
    return msgspec.json.decode((out / "metrics.json").read_bytes(), type=Metrics)


@pytest.fixture(scope="module")
def data(csv: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    (directory / "digits.csv").write_bytes(csv)
    return directory


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("trained") / "out"
    done = run("--data", data, "--out", out, "--epochs", 2)
    assert (done.returncode, done.stderr) == (0, "")
    return out, done.stdout


def test_two_epochs_learn_far_more_than_chance(trained: tuple[Path, str]) -> None:
    """Chance is one in ten; a network that is wired wrongly stays near it."""
    metrics = metrics_of(trained[0])

    assert metrics.finished
    assert [point.epoch for point in metrics.epochs] == [1, 2]
    assert metrics.epochs[1].loss < metrics.epochs[0].loss / 2
    assert metrics.epochs[1].test_accuracy > 0.8
    assert (metrics.learnt_from, metrics.unseen.digits, metrics.steps) == (1437, 360, 2 * 103)


def test_confusion_accounts_for_every_unseen_digit(trained: tuple[Path, str]) -> None:
    metrics = metrics_of(trained[0])
    confusion = metrics.unseen.confusion

    assert sum(map(sum, confusion)) == 360
    assert metrics.unseen.right == sum(confusion[digit][digit] for digit in range(10))
    assert metrics.unseen.right == round(360 * metrics.epochs[-1].test_accuracy)


def test_stored_model_reads_the_unseen_digits_as_reported(trained: tuple[Path, str], csv: bytes) -> None:
    """Computed here from `model.json` alone, so the figures are of the model that is stored."""
    model = msgspec.json.decode((trained[0] / "model.json").read_bytes(), type=Model)
    rows = [[int(field) for field in line.split(",")] for line in csv.decode().splitlines()]
    random.Random(1).shuffle(rows)

    right = sum(model.read(row[:64]) == row[64] for row in rows[1437:])

    assert metrics_of(trained[0]).unseen.right == right


def test_each_step_and_each_epoch_prints_a_line(trained: tuple[Path, str]) -> None:
    """The demo reads its progress from these lines."""
    lines = trained[1].splitlines()
    points = metrics_of(trained[0]).epochs

    assert lines[0] == "1437 digits to learn from, 360 unseen, seed 1"
    assert sum(line.startswith("step ") for line in lines) == 206
    assert [f"epoch {p.epoch}/2  loss {p.loss:.2f}  test accuracy {p.test_accuracy:.2f}" for p in points] == [
        line for line in lines if line.startswith("epoch ")
    ]
    right = metrics_of(trained[0]).unseen.right
    assert lines[-1] == f"{right} of 360 unseen digits right ({100 * right / 360:.1f} %)"


def test_curve_shows_each_epoch_of_four_series(trained: tuple[Path, str]) -> None:
    root = ET.parse(trained[0] / "curve.svg").getroot()  # noqa: S314 - written by the example itself

    assert f"{SVG}svg" == root.tag
    assert [len(line.attrib["points"].split()) for line in root.iter(f"{SVG}polyline")] == [2, 2, 2, 2]
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"Loss", "Digits read right", "epoch"} <= set(words)


def test_same_options_give_the_same_bytes(trained: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    again = run("--data", data, "--out", tmp_path, "--epochs", 2)

    assert trained[1] == again.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == OUTPUTS
    for name in OUTPUTS:
        assert (trained[0] / name).read_bytes() == (tmp_path / name).read_bytes()


def test_another_seed_gives_another_model(trained: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    run("--data", data, "--out", tmp_path, "--epochs", 1, "--seed", 2)

    assert (trained[0] / "model.json").read_bytes() != (tmp_path / "model.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--epoch", "3"], "train.py: no such option --epoch"),
        (["--epoch=3"], "train.py: no such option --epoch"),
        (["--epochs", "many"], "train.py: argument --epochs: invalid int value: 'many'"),
        (["--epochs", "0"], "train.py: --epochs must be a number above 0"),
        (["--lr", "nan"], "train.py: --lr must be a number above 0"),
        (["--lr"], "train.py: argument --lr: expected one argument"),
    ],
)
def test_wrong_option_exits_3_with_one_line(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = run("--out", tmp_path / "out", *arguments)

    assert (3, "", complaint + "\n") == (done.returncode, done.stdout, done.stderr)
    assert not (tmp_path / "out").exists()


def test_missing_data_are_named_in_one_line(tmp_path: Path) -> None:
    done = run("--data", tmp_path / "none", "--out", tmp_path)

    path = tmp_path / "none" / "digits.csv"
    complaint = f"train.py: cannot read {path}: No such file or directory; unpack digits.tar.gz into --data\n"
    assert (1, "", complaint) == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("bad", [b"1,2,3", b"x", b"17," * 64 + b"1", b"0," * 64 + b"10", b"0," * 64 + b"-1"])
def test_bad_row_is_named_in_one_line(csv: bytes, bad: bytes, tmp_path: Path) -> None:
    rows = csv.splitlines()
    (tmp_path / "digits.csv").write_bytes(b"\n".join([*rows[:1500], bad, *rows[1501:]]))

    done = run("--data", tmp_path, "--out", tmp_path)

    assert done.returncode == 1
    assert f"train.py: {tmp_path}/digits.csv line 1501: expected 64 numbers" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("content", "reason"), [(b"\xff\xfe", "it is no text"), (b"", "has 0 rows")])
def test_unreadable_data_are_named_in_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_bytes(content)

    done = run("--data", tmp_path, "--out", tmp_path)

    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_output_directory_that_is_a_file_is_named_in_one_line(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    done = run("--data", data, "--out", tmp_path / "out")

    complaint = f"train.py: cannot write {tmp_path}/out: File exists; choose another --out\n"
    assert (1, complaint) == (done.returncode, done.stderr)


def test_training_that_diverges_says_so_in_one_line(data: Path, tmp_path: Path) -> None:
    done = run("--data", data, "--out", tmp_path, "--lr", "1e300", "--epochs", 1)

    assert done.returncode == 1
    assert "lower --lr\n" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("awaited", "hidden"), [("step 3 ", 400), ("epoch 1/", 24)])
def test_sigterm_leaves_what_was_learnt_so_far(awaited: str, hidden: int, data: Path, tmp_path: Path) -> None:
    """A job that is stopped keeps its work; the picture stands even in the first epoch, here a long one."""
    arguments = command("--data", data, "--out", tmp_path, "--hidden", hidden)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        lines = read_until(training.stdout, awaited)
        training.send_signal(signal.SIGTERM)
        lines += training.stdout
        assert training.wait(WAIT_S) == 143

    assert "what was learnt so far is stored" in lines[-2]
    assert sorted(path.name for path in tmp_path.iterdir()) == OUTPUTS
    metrics = metrics_of(tmp_path)
    assert not metrics.finished
    assert len(metrics.epochs) == sum(line.startswith("epoch ") for line in lines)
    assert sum(map(sum, metrics.unseen.confusion)) == 360
    msgspec.json.decode((tmp_path / "model.json").read_bytes(), type=Model)
    ET.parse(tmp_path / "curve.svg")  # noqa: S314 - written by the example itself


def read_until(stream: IO[str], start: str) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line)
        if line.startswith(start):
            return lines
    raise AssertionError(f"no line begins with {start!r}")


@pytest.mark.slow
def test_default_training_reads_93_of_100_unseen_digits(data: Path, tmp_path: Path) -> None:
    done = run("--data", data, "--out", tmp_path)

    metrics = metrics_of(tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3122)
    assert len(metrics.epochs) == 30
    assert metrics.unseen.right >= 0.93 * 360

"""
Teaches a small network to read handwritten digits, in plain Python, and stores what it learnt.

Reads `digits.csv` from `--data`; writes `model.json`, `metrics.json` and `curve.svg` into `--out`. Needs Python 3.8,
its standard library, and `curve.py` beside it. The same options give the same bytes. Never learns from the 360 digits
that it is tested on, nor lets them decide when to stop.

    exit  when
       0  all epochs are done, outputs stand in --out
       1  the data cannot be read, the outputs cannot be written, or the training diverged
       3  an option is wrong
     143  SIGTERM: outputs of what was learnt so far stand in --out
"""

from __future__ import annotations

import argparse
import json
import math
import random
import signal
import sys
from functools import reduce
from operator import add, mul
from pathlib import Path
from typing import Dict, List, NoReturn, Optional, Sequence, Tuple

import curve  # type: ignore[import-not-found]  # found beside this file when it runs; checkers start elsewhere

PIXELS = 64
CLASSES = 10
DARKEST = 16
TRAIN_ROWS = 1437

Vector = List[float]
Digit = Tuple[Vector, int]


class TrainingError(Exception):
    """The training cannot go on; the text says what failed and what to do."""


def dot(left: Vector, right: Vector) -> float:
    # sum() compensates rounding from Python 3.12 on; this gives the same bits on every version.
    total: float = reduce(add, map(mul, left, right))
    return total


class Layer:
    """A dense layer: one row of weights per output, each ending in its bias."""

    def __init__(self, inputs: int, outputs: int, chance: random.Random) -> None:
        spread = math.sqrt(6 / inputs)
        self.rows = [[chance.uniform(-spread, spread) for _ in range(inputs)] + [0.0] for _ in range(outputs)]
        self.forget_slopes()

    def forget_slopes(self) -> None:
        self.slopes = [[0.0] * len(row) for row in self.rows]

    def forward(self, values: Vector) -> Vector:
        return [dot(row, values) for row in self.rows]

    def add_slopes(self, values: Vector, errors: Vector) -> None:
        for index, error in enumerate(errors):
            if error:
                self.slopes[index] = [s + error * v for s, v in zip(self.slopes[index], values)]

    def backward(self, errors: Vector) -> Vector:
        return [dot(list(column), errors) for column in zip(*self.rows)][:-1]

    def step(self, rate: float) -> None:
        self.rows = [[w - rate * s for w, s in zip(row, slope)] for row, slope in zip(self.rows, self.slopes)]
        self.forget_slopes()

    def document(self, activation: str) -> Dict[str, object]:
        rows = [[round(weight, 6) for weight in row] for row in self.rows]
        return {"activation": activation, "weights": [row[:-1] for row in rows], "biases": [row[-1] for row in rows]}


class Network:
    """Pixels to ten probabilities, through one hidden layer of rectified units."""

    def __init__(self, hidden: int, chance: random.Random) -> None:
        self.hidden = Layer(PIXELS, hidden, chance)
        self.output = Layer(hidden, CLASSES, chance)

    def forward(self, pixels: Vector) -> Tuple[Vector, Vector]:
        """The hidden values, and the probability of each digit."""
        hidden = [max(0.0, value) for value in self.hidden.forward([*pixels, 1.0])]
        scores = self.output.forward([*hidden, 1.0])
        powers = [math.exp(score - max(scores)) for score in scores]
        total = reduce(add, powers)
        return hidden, [power / total for power in powers]

    def learn(self, batch: Sequence[Digit], rate: float) -> Tuple[float, int]:
        """One step of gradient descent; gives the batch's mean loss and how many it had right before the step."""
        loss, right = 0.0, 0
        for pixels, label in batch:
            hidden, chances = self.forward(pixels)
            loss -= math.log(max(chances[label], 1e-300))
            right += chances.index(max(chances)) == label
            self._add_slopes(pixels, hidden, [p - (digit == label) for digit, p in enumerate(chances)])
        for layer in (self.hidden, self.output):
            layer.step(rate / len(batch))
        return loss / len(batch), right

    def _add_slopes(self, pixels: Vector, hidden: Vector, errors: Vector) -> None:
        self.output.add_slopes([*hidden, 1.0], errors)
        hidden_errors = [e if value > 0 else 0.0 for e, value in zip(self.output.backward(errors), hidden)]
        self.hidden.add_slopes([*pixels, 1.0], hidden_errors)


class Training:
    """Everything one training knows: the digits, the network, the curve so far, and whether it was told to stop."""

    def __init__(self, digits: List[Digit], options: argparse.Namespace) -> None:
        self.options = options
        self.chance = random.Random(options.seed)
        self.chance.shuffle(digits)
        self.learnt, self.unseen = digits[:TRAIN_ROWS], digits[TRAIN_ROWS:]
        self.network = Network(options.hidden, self.chance)
        self.points: List[curve.Point] = []
        self.steps = 0
        self.stopped = False

    def stop(self, *_: object) -> None:
        self.stopped = True

    def run(self) -> None:
        while len(self.points) < self.options.epochs:
            point = self._epoch()
            if point is None:
                return
            self.points.append(point)
            progress = f"loss {point['loss']:.2f}  test accuracy {point['test_accuracy']:.2f}"
            say(f"epoch {point['epoch']}/{self.options.epochs}  {progress}")

    def _epoch(self) -> Optional[curve.Point]:
        """One time through the data, in a new order; None when told to stop on the way."""
        loss, right, count = 0.0, 0, len(self.learnt)
        self.chance.shuffle(self.learnt)
        for start in range(0, count, self.options.batch):
            if self.stopped:
                return None
            batch = self.learnt[start : start + self.options.batch]
            batch_loss, batch_right = self._step(batch)
            loss, right = loss + batch_loss * len(batch), right + batch_right
        test_loss, confusion = self.examine()
        return {
            "epoch": len(self.points) + 1,
            "loss": round(loss / count, 6),
            "accuracy": round(right / count, 6),
            "test_loss": round(test_loss, 6),
            "test_accuracy": round(diagonal(confusion) / len(self.unseen), 6),
        }

    def _step(self, batch: Sequence[Digit]) -> Tuple[float, int]:
        self.steps += 1
        loss, right = self.network.learn(batch, self.options.lr)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is no longer a number at step {self.steps}: lower --lr")
        say(f"step {self.steps}  loss {loss:.3f}")
        return loss, right

    def examine(self) -> Tuple[float, List[List[int]]]:
        """The mean loss over the unseen digits, and how often each digit (row) was read as each (column)."""
        loss = 0.0
        confusion = [[0] * CLASSES for _ in range(CLASSES)]
        for pixels, label in self.unseen:
            chances = self.network.forward(pixels)[1]
            loss -= math.log(max(chances[label], 1e-300))
            confusion[label][chances.index(max(chances))] += 1
        return loss / len(self.unseen), confusion

    def metrics(self) -> curve.Metrics:
        confusion = self.examine()[1]
        chosen = self.options
        return {
            "settings": {
                "epochs": chosen.epochs,
                "batch": chosen.batch,
                "hidden": chosen.hidden,
                "lr": chosen.lr,
                "seed": chosen.seed,
            },
            "finished": len(self.points) == self.options.epochs,
            "steps": self.steps,
            "learnt_from": len(self.learnt),
            "epochs": self.points,
            "unseen": {"digits": len(self.unseen), "right": diagonal(confusion), "confusion": confusion},
        }


def diagonal(table: List[List[int]]) -> int:
    return sum(row[index] for index, row in enumerate(table))


def say(line: str) -> None:
    print(line, flush=True)


def load(directory: Path) -> List[Digit]:
    path = directory / "digits.csv"
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise TrainingError(f"cannot read {path}: {reason}; unpack digits.tar.gz into --data") from error
    if len(lines) <= TRAIN_ROWS:
        raise TrainingError(f"{path} has {len(lines)} rows, more than {TRAIN_ROWS} are needed; unpack it again")
    return [digit(line, f"{path} line {number}") for number, line in enumerate(lines, 1)]


def digit(line: str, where: str) -> Digit:
    try:
        *pixels, label = map(int, line.split(","))
    except ValueError:
        pixels, label = [], -1
    if len(pixels) != PIXELS or not 0 <= min(pixels) <= max(pixels) <= DARKEST or label not in range(CLASSES):
        raise TrainingError(f"{where}: expected {PIXELS} numbers of 0 to {DARKEST} and a digit; unpack it again")
    return [pixel / DARKEST for pixel in pixels], label


def store(training: Training, directory: Path) -> curve.Unseen:
    """Writes the outputs; gives how the unseen digits were read."""
    layers = [training.network.hidden.document("relu"), training.network.output.document("softmax")]
    metrics = training.metrics()
    model = {"pixels_divided_by": DARKEST, "layers": layers}
    write(directory / "model.json", json.dumps(model) + "\n")
    write(directory / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write(directory / "curve.svg", curve.picture(metrics))
    return metrics["unseen"]


def write(path: Path, text: str) -> None:
    """Never leaves half a file behind."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, "utf-8")
    draft.replace(path)


class Options(argparse.ArgumentParser):
    """Complains in one line and exits 3, so that a typing error is told from a failed training."""

    def error(self, message: str) -> NoReturn:
        self.exit(3, f"{self.prog}: {message}\n")


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Options(prog="train.py", description="Teach a small network to read digits.", allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help="where digits.csv is")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the outputs go")
    parser.add_argument("--epochs", type=int, default=30, metavar="N", help="times through the data")
    parser.add_argument("--batch", type=int, default=14, metavar="N", help="digits in one step")
    parser.add_argument("--hidden", type=int, default=24, metavar="N", help="units in the hidden layer")
    parser.add_argument("--lr", type=float, default=0.1, metavar="X", help="learning rate")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="start of all chance")
    chosen, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"no such option {unknown[0].partition('=')[0]}")
    for name in ("epochs", "batch", "hidden", "lr"):
        if not 0 < getattr(chosen, name) < math.inf:
            parser.error(f"--{name} must be a number above 0")
    return chosen


def train(chosen: argparse.Namespace) -> int:
    training = Training(load(chosen.data), chosen)
    signal.signal(signal.SIGTERM, training.stop)
    say(f"{len(training.learnt)} digits to learn from, {len(training.unseen)} unseen, seed {chosen.seed}")
    chosen.out.mkdir(parents=True, exist_ok=True)
    training.run()
    unseen = store(training, chosen.out)
    if training.stopped:
        say(f"stopped at step {training.steps}: what was learnt so far is stored")
    share = f"{100 * unseen['right'] / unseen['digits']:.1f} %"
    say(f"{unseen['right']} of {unseen['digits']} unseen digits right ({share})")
    return 128 + signal.SIGTERM if training.stopped else 0


def main(arguments: Sequence[str]) -> int:
    chosen = options(arguments)
    try:
        return train(chosen)
    except TrainingError as error:
        complaint = str(error)
    except OSError as error:
        complaint = f"cannot write {error.filename or 'stdout'}: {error.strerror}; choose another --out"
    print(f"train.py: {complaint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

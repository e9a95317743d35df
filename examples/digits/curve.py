"""
Draws the learning curve of one training as a picture that any browser shows.

Owns the look of `curve.svg`; never reads or writes a file. The picture stands alone: no script, no font, no link.
"""

from __future__ import annotations

import math
from typing import List, Tuple, TypedDict


class Point(TypedDict):
    """
    One epoch. Losses are mean cross entropies, accuracies fractions; those with `test_` are of the unseen digits.

    The others are taken while the network learns, so in the first epochs the unseen digits fare better.
    """

    epoch: int
    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float


class Settings(TypedDict):
    """The options that the result depends on."""

    epochs: int
    batch: int
    hidden: int
    lr: float
    seed: int


class Unseen(TypedDict):
    """How the digits were read that were kept aside; `confusion` has a row per digit and a column per reading."""

    digits: int
    right: int
    confusion: List[List[int]]


class Metrics(TypedDict):
    """The content of `metrics.json`; `epochs` holds those that were finished, maybe none."""

    settings: Settings
    finished: bool
    steps: int
    learnt_from: int
    epochs: List[Point]
    unseen: Unseen


BLUE, ORANGE, INK, GREY, LINE = "#2563eb", "#ea580c", "#1f2937", "#6b7280", "#e5e7eb"
WIDTH, HEIGHT, TOP, BOTTOM = 944, 470, 126, 400
TICKS = 5.5


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{words}</text>'


class Panel:
    """One set of axes: epochs to the right, a quantity from `low` to `high` upwards."""

    def __init__(self, left: float, epochs: int, low: float, high: float) -> None:
        self.left, self.right = left, left + 366
        self.epochs, self.low, self.high = epochs, low, high

    def x(self, epoch: float) -> float:
        return self.left + (self.right - self.left) * (epoch - 1) / max(1, self.epochs - 1)

    def y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low)

    def axes(self, title: str, unit: str) -> List[str]:
        step = nice_step(self.high - self.low)
        ticks = [self.low + step * n for n in range(round((self.high - self.low) / step) + 1)]
        parts = [text(self.left, TOP - 18, title, f'font-weight="600" fill="{INK}"')]
        for value in ticks:
            y, colour = self.y(value), GREY if value == self.low else LINE
            parts += [f'<path d="M{self.left:.1f} {y:.1f}H{self.right:.1f}" stroke="{colour}"/>',
                      text(self.left - 8, y + 4, f"{value:g}{unit}", 'text-anchor="end"')]  # fmt: skip
        stride = max(1, int(nice_step(self.epochs)))
        for epoch in sorted({1, *range(stride, self.epochs + 1, stride)}):
            parts.append(text(self.x(epoch), BOTTOM + 20, str(epoch), 'text-anchor="middle"'))
        return [*parts, text((self.left + self.right) / 2, BOTTOM + 44, "epoch", 'text-anchor="middle"')]

    def last_values(self, learnt: List[float], unseen: List[float], form: str) -> List[str]:
        """The two figures at the right end, moved apart where they would overlap."""
        if not learnt:
            return []
        ends = self.y(learnt[-1]), self.y(unseen[-1])
        apart = max(0.0, 14 - abs(ends[0] - ends[1])) / 2
        shift = -apart if ends[0] <= ends[1] else apart
        x = self.x(len(learnt)) + 10
        return [
            text(x, ends[0] + 4 + shift, format(learnt[-1], form), f'fill="{BLUE}" font-weight="600"'),
            text(x, ends[1] + 4 - shift, format(unseen[-1], form), f'fill="{ORANGE}" font-weight="600"'),
        ]

    def series(self, values: List[float], colour: str) -> List[str]:
        points = [f"{self.x(epoch):.1f},{self.y(value):.1f}" for epoch, value in enumerate(values, 1)]
        if not points:
            return []
        x, y = points[-1].split(",")
        look = f'fill="none" stroke="{colour}" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round"'
        return [
            f'<polyline points="{" ".join(points)}" {look}/>',
            f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}" stroke="#fff" stroke-width="1.5"/>',
        ]


def nice_step(span: float) -> float:
    """The smallest round step that divides `span` into at most `TICKS`."""
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    return next(power * factor for factor in (1, 2, 5, 10) if span <= TICKS * power * factor)


def legend(x: float, words: str, colour: str) -> List[str]:
    line = f'<path d="M{x:.1f} 71H{x + 22:.1f}" stroke="{colour}" stroke-width="2.5" stroke-linecap="round"/>'
    return [line, text(x + 30, 75, words)]


def loss_panel(metrics: Metrics) -> List[str]:
    learnt = [point["loss"] for point in metrics["epochs"]]
    unseen = [point["test_loss"] for point in metrics["epochs"]]
    return curves(Panel(56, metrics["settings"]["epochs"], *loss_range(learnt + unseen)), "Loss", "", learnt, unseen)


def accuracy_panel(metrics: Metrics) -> List[str]:
    learnt = [100 * point["accuracy"] for point in metrics["epochs"]]
    unseen = [100 * point["test_accuracy"] for point in metrics["epochs"]]
    panel = Panel(522, metrics["settings"]["epochs"], *percent_range(learnt + unseen))
    return curves(panel, "Digits read right", " %", learnt, unseen)


def curves(panel: Panel, title: str, unit: str, learnt: List[float], unseen: List[float]) -> List[str]:
    lines = [*panel.series(learnt, BLUE), *panel.series(unseen, ORANGE)]
    return [*panel.axes(title, unit), *lines, *panel.last_values(learnt, unseen, ".1f" if unit else ".2f")]


def percent_range(values: List[float]) -> Tuple[float, float]:
    return min(90.0, 10.0 * math.floor(min(values, default=0.0) / 10)), 100.0


def loss_range(values: List[float]) -> Tuple[float, float]:
    largest = max(values, default=1.0) or 1.0
    step = nice_step(largest)
    return 0.0, step * math.ceil(largest / step)


def picture(metrics: Metrics) -> str:
    """The learning curve as SVG text."""
    settings, unseen = metrics["settings"], metrics["unseen"]
    done = f"{len(metrics['epochs'])} of {settings['epochs']} epochs"
    facts = f"{unseen['right']} of {unseen['digits']} unseen digits right, {done}, seed {settings['seed']}"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    look = f'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12" fill="{GREY}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look}>',
        "<title>Learning curve of the digits example</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(56, 40, f"{100 * unseen['right'] / unseen['digits']:.1f} % of unseen digits are read right",
             f'font-size="20" font-weight="600" fill="{INK}"'),
        text(WIDTH - 56, 75, facts, 'text-anchor="end"'),
        *legend(56, f"{metrics['learnt_from']:,} digits it learns from", BLUE),
        *legend(262, f"{unseen['digits']} unseen digits", ORANGE),
        *loss_panel(metrics),
        *accuracy_panel(metrics),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"

"""Summary of the table benchmarks: one line per figure, from their finished parts.

    python benchmarks/tables/bars.py [--out DIR]

Figures without finished parts are empty. "Log score against": how much worse ours is, relative to that of the specialists.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from command_line import arguments_of
from parts import Parts

OURS = "JointEBM"


class Measured:
    """The finished parts of one benchmark."""

    def __init__(self, out: Path, name: str) -> None:
        self.lines = Parts(out / f"{name}.csv").table()

    def values(self, group: str, method: str, metric: str, *, of: str = "value") -> pd.Series:
        """Values of all measured parts of a group, by part."""
        lines = self.lines[(self.lines.method == method) & (self.lines.metric == metric)]
        return lines[lines.part.str.split(": ").str[0] == group].set_index("part")[of]

    def value(self, part: str, method: str, metric: str, *, of: str = "value") -> float:
        """The value of one part; raises KeyError if it was not measured."""
        return self.values(part.split(": ")[0], method, metric, of=of)[part]


def bars(out: Path) -> str:
    """A Markdown table."""
    adult, nltcs, coverage, holes = (Measured(out, name) for name in ("adult", "nltcs", "coverage", "holes"))

    def shortfall(specialist: str) -> float:
        scores = [adult.values("log score", method, "log_score") for method in (OURS, specialist)]
        if not len(scores[0]) or set(scores[0].index) != set(scores[1].index):
            raise KeyError(f"log scores of {specialist}")
        return float(scores[0].mean() / scores[1].mean() - 1)

    def kept(share: int) -> float:
        return holes.value(f"holes: {share}% missing", OURS, "c2st") / adult.value("generation", OURS, "c2st")

    def covered(metric: str) -> str:
        found = coverage.values("coverage", OURS, metric)
        if not len(found):
            raise KeyError(metric)
        return ", ".join(f"{part.split(': ')[1]} {value:.3f}" for part, value in found.items())

    lines: list[tuple[str, Callable[[], str]]] = [
        ("log score against scikit-learn's trees", lambda: f"{shortfall('specialist, scikit-learn'):+.2%}"),
        ("log score against LightGBM's trees", lambda: f"{shortfall('specialist, LightGBM'):+.2%}"),
        ("C2ST of Adult samples", lambda: f"{adult.value('generation', OURS, 'c2st'):.3f}"),
        ("anomalies, AUROC", lambda: f"{adult.value('anomalies', 'JointEBMOutlierDetector', 'auroc'):.3f}"),
        ("coverage of central 90% intervals", lambda: covered("coverage")),
        ("coverage expected of exact draws", lambda: covered("expected")),
        ("coverage of shortest 90% intervals", lambda: covered("shortest")),
        ("coverage expected of exact draws", lambda: covered("shortest_expected")),
        ("coverage, central, ties split by chance", lambda: covered("randomised")),
        ("NLTCS, test log-likelihood", lambda: f"{nltcs.value('log-likelihood', OURS, 'test'):.3f}"),
        ("fit on Adult, CPU / wall", lambda: " / ".join(
            f"{adult.value('fit', OURS, 'held_out_log_score', of=clock):.0f} s" for clock in ("cpu_seconds", "wall_seconds")
        )),
        ("C2ST kept with 20% missing", lambda: f"{kept(20):.1%}"),
        ("C2ST kept with 50% missing", lambda: f"{kept(50):.1%}"),
    ]  # fmt: skip
    rows = [f"| {what} | {_or_empty(measure)} |" for what, measure in lines]
    return "\n".join(["| what | measured |", "| --- | --- |", *rows])


def _or_empty(measure: Callable[[], str]) -> str:
    try:
        return measure()
    except KeyError:  # not measured yet
        return ""


def main(argv: Sequence[str] | None = None) -> None:
    print(bars(arguments_of(__doc__, argv).out))


if __name__ == "__main__":
    main()

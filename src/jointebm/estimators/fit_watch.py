"""Watches a fit: tells the logger `jointebm` and the caller of its progress, and warns where it learned too little."""

import sys
from collections.abc import Callable, Mapping

from jointebm.sampling.diagnostics import ConvergenceWarning, warn_caller
from jointebm.tables.answers.answer_progress import LOGGER
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.training.table_config import Progress

__all__ = ["FitWatch"]

MAX_CHANCE = 0.01  # that independent columns depend as much, below which the data show that columns depend


class FitWatch:
    """What to do whenever the held-out rows of a fit are scored, and at its end.

    Args:
        on_progress: called with each progress; None calls nothing.
        verbose: whether to print a line to standard error as well as to the logger, whose level is INFO.

    Example:
        >>> watch = FitWatch(print, verbose=False)
        >>> watch.tell(Progress(0.5, -3.25, -0.5, 2.0))
        Progress(fraction=0.5, log_likelihood=-3.25, log_score=-0.5, seconds=2.0)
    """

    def __init__(self, on_progress: Callable[[Progress], object] | None, *, verbose: bool) -> None:
        self._on_progress, self._verbose = on_progress, verbose
        self._told: list[Progress] = []

    def tell(self, progress: Progress) -> None:
        """Logs the progress and passes it on."""
        self._told.append(progress)
        self.say(
            f"fit {progress.fraction:.0%}: held-out log-likelihood of codes {progress.log_likelihood:.3f} nats per row, "
            f"{progress.seconds:.1f} s"
        )
        if self._on_progress is not None:
            self._on_progress(progress)

    def say(self, line: str) -> None:
        """Logs a line."""
        LOGGER.info(line)
        if self._verbose:
            sys.stderr.write(f"jointebm: {line}\n")

    def finish(self, model: TableModel) -> None:
        """Logs the report, and warns if training was cut short, if nothing was learned, or if a group of rows is wrong.

        Training was cut short where the last score of held-out rows is better than all before it, by more than the
        standard error of the gain, and that of the network that was kept is too: a last look at which log Z was hardly known
        scores too high, and its network is not kept. Such a look before the last one hides it. Nothing was learned where F
        is the product of its marginals, although the data show that columns depend on one another. A group is wrong where a
        component of the reference has far more or less weight under F than in the data, or where log Z differs between the
        end of the draws and that of the data.

        Warns:
            ConvergenceWarning: with the remedy.
        """
        report = model.report
        assert report is not None  # it has been fitted
        for line in report.lines():
            self.say(line)
        scores = [each.log_likelihood for each in self._told]
        lead = 0.0
        if report.log_likelihood is not None and len(scores) > 1:
            lead = min(scores[-1], report.log_likelihood) - max(scores[:-1])
        is_marginals = len(model.energy.reference.log_weights) == 1 and not report.gain
        if is_marginals and report.chance_of_dependence < MAX_CHANCE:
            _warn(
                "the fit learned nothing about how columns depend on one another, though the data show that they do "
                f"(by chance with a probability of {max(report.chance_of_dependence, 1e-9):.0e}): its answers are those of "
                "the marginals, unless it gets more rows",
                {"rows_per_component": 20, "num_visits": 250},
            )
        elif report.gain and lead > (report.gain_error or 0.0):
            _warn(
                "training was cut short: the last score of held-out rows is still the best, by "
                f"{lead:.3f} nats per row",
                {"num_visits": "twice", "max_iterations": "a larger"},
            )
        for finding in filter(None, (report.component_finding, report.bracket_finding)):
            _warn(
                f"the fit failed: {finding}. Scores and samples of such rows are wrong",
                {"num_visits": "twice", "learning_rate": "half"},
            )


def _warn(finding: str, training: Mapping[str, int | str]) -> None:
    warn_caller(ConvergenceWarning(finding, {"training": training}))

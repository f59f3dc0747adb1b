"""Adult: log score of one missing column, two-sample test of samples, detection of mixed rows, fit time.

    python benchmarks/tables/adult.py --data DIR [--anchors ANCHORS/bin/python] [--only "log score"] [--report]

"log score: COLUMN": mean log p(bin | all other columns) over the 15,060 complete test rows, nats; all methods
predict the bins of our codec from its codes, and specialists are fitted for that one column; nrgboost, which models all
columns at once, sees bins. "generation": 10,000 complete test rows
against as many samples. "anomalies": 4,000 test rows against the same rows with 7 of 15 columns, chosen per row, replaced
independently from other rows. Ends with the summary of all table benchmarks measured so far.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anchors_run import log_scores_of, samples_of
from bars import bars
from command_line import run_benchmark
from detectors import Scorer, isolation_forest, neighbours
from gaussian_copula import sample_copula
from judges import auroc, judge_samples
from mixture_of_products import MixtureOfProducts
from ours import bins_of, codes_of, frame_of_codes, log_prob_of_bin, run_fit
from parts import Parts
from specialists import boosted_trees
from tables_data import adult

from jointebm.estimators import JointEBM, JointEBMOutlierDetector

NUM_SAMPLES, NUM_ROWS = 10_000, 4_000
SIZES = (64, 192)  # candidate numbers of components of the mixture


class Adult:
    """The data, our fitted model and the fitted mixture."""

    def __init__(self, data: Path, out: Path) -> None:
        self.train, self.test = adult(data)
        self.model_folder, self.mixture_file = out / "adult-model", out / "adult-mixture.npz"

    @cached_property
    def ours(self) -> JointEBM:
        return JointEBM.load(self.model_folder)

    @cached_property
    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows as codes."""
        return codes_of(self.ours, self.train), codes_of(self.ours, self.test)

    @cached_property
    def bins(self) -> tuple[np.ndarray, ...]:
        """The bin of each code of each column."""
        return bins_of(self.ours)

    @cached_property
    def binned(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows as bins, -1 is missing."""
        train, test = (
            np.stack([np.append(bins, -1)[codes[:, j]] for j, bins in enumerate(self.bins)], axis=1)
            for codes in self.codes
        )
        return train, test

    def asking(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows as codes, with column j, which is asked for, as bins."""
        train, test = (codes.copy() for codes in self.codes)
        for codes, binned in zip((train, test), self.binned, strict=True):
            codes[:, j] = binned[:, j]
        return train, test

    @cached_property
    def mixture(self) -> MixtureOfProducts:
        return MixtureOfProducts.load(self.mixture_file)

    def fit_mixture(self) -> dict[str, float]:
        mixture = MixtureOfProducts.fit_best(self.codes[0], self.ours.codec_.num_codes, SIZES)
        mixture.save(self.mixture_file)
        return {"components": len(mixture.log_weights)}

    @cached_property
    def strange(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Test rows, and the same with a random half of their columns permuted, each on its own."""
        rows, generator = self.test.head(NUM_ROWS), np.random.default_rng(5)
        moved = generator.random(rows.shape).argsort(axis=1) < rows.shape[1] // 2
        orders = [generator.permutation(len(rows)) for _ in rows]
        shuffled = pd.DataFrame({name: rows[name].to_numpy()[order] for name, order in zip(rows, orders, strict=True)})
        return rows, rows.mask(moved, shuffled).astype(rows.dtypes)


def log_scores(bench: Adult, parts: Parts, anchors: Path | None, threads: int) -> None:
    """One part per column and method."""
    codec = bench.ours.codec_
    ordered = np.array([bins is not None for bins in codec.bins])
    truth = bench.codes[1]

    def ours(j: int) -> np.ndarray:
        of_codes = bench.ours.model_.conditional(torch.from_numpy(truth), j).numpy()
        return log_prob_of_bin(of_codes, truth[:, j], bench.bins[j])

    def mixture(j: int) -> np.ndarray:
        return log_prob_of_bin(bench.mixture.conditional(truth, j), truth[:, j], bench.bins[j])

    methods: dict[str, Callable[[int], np.ndarray]] = {
        "JointEBM": ours,
        "mixture": mixture,
        "specialist, scikit-learn": lambda j: boosted_trees(*bench.asking(j), ordered, j),
    }

    def files(train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
        return {"train": train, "test": test, "ordered": ordered}

    if anchors is not None:
        methods["specialist, LightGBM"] = lambda j: log_scores_of(
            anchors, "lightgbm", files(*bench.asking(j)) | {"column": np.array(j)}, threads=threads
        )
    for method, score in methods.items():
        for j in np.argsort([bins[-1] for bins in bench.bins], kind="stable").tolist():  # quick ones first
            name = codec.names[j]
            parts.run(f"log score: {name}", method, lambda j=j, score=score: {"log_score": score(j).mean()})
    if anchors is not None:

        def nrgboost() -> Mapping[str, Mapping[str, float]]:
            scores = log_scores_of(anchors, "nrgboost_codes", files(*bench.binned), threads=threads).mean(axis=0)
            return {f"log score: {name}": {"log_score": each} for name, each in zip(codec.names, scores, strict=True)}

        parts.run_together([f"log score: {name}" for name in codec.names], "nrgboost", nrgboost)


def generation(bench: Adult, parts: Parts, anchors: Path | None, threads: int) -> None:
    """One part per generator."""
    real = bench.test.sample(NUM_SAMPLES, random_state=0)
    rows = bench.train.dropna()
    marginals = {name: rows[name].sample(NUM_SAMPLES, random_state=j).to_numpy() for j, name in enumerate(rows)}
    generators: dict[str, Callable[[], pd.DataFrame]] = {
        "real training rows": lambda: rows.sample(NUM_SAMPLES, random_state=0),
        "independent columns": lambda: pd.DataFrame(marginals),
        "JointEBM": lambda: bench.ours.sample(NUM_SAMPLES, seed=1),
        "mixture": lambda: frame_of_codes(bench.ours, bench.mixture.sample(NUM_SAMPLES)),
        "Gaussian copula": lambda: sample_copula(bench.train, NUM_SAMPLES),
    }
    if anchors is not None:
        for name in ("nrgboost", "arf"):
            generators[name] = lambda name=name: samples_of(anchors, name, bench.train, NUM_SAMPLES, threads=threads)
    for method, draw in generators.items():
        parts.run("generation", method, lambda draw=draw: judge_samples(real, draw()))


def anomalies(bench: Adult, parts: Parts) -> None:
    """One part per score."""

    def default() -> Scorer:
        return JointEBMOutlierDetector.of(bench.ours, bench.test.tail(200)).score_samples

    scores: dict[str, Callable[[], Scorer]] = {
        "JointEBMOutlierDetector": default,
        "JointEBM.conditional_surprise": lambda: bench.ours.conditional_surprise,
        "JointEBM.score_samples": lambda: bench.ours.score_samples,
        "mixture, log p": lambda: lambda rows: bench.mixture.log_prob(codes_of(bench.ours, rows)),
        "mixture, dependence": lambda: lambda rows: bench.mixture.dependence(codes_of(bench.ours, rows)),
        "IsolationForest": lambda: isolation_forest(bench.train.dropna()),
        "5-NN": lambda: neighbours(bench.train.dropna()),
    }
    for method, make in scores.items():

        def measure(make: Callable[[], Scorer] = make) -> dict[str, float]:
            score = make()
            return {"auroc": auroc(*(score(rows) for rows in bench.strange))}

        parts.run("anomalies", method, measure)


def measure(arguments: Namespace, parts: Parts) -> None:
    bench = Adult(arguments.data, arguments.out)
    run_fit(parts, "fit", bench.train, bench.model_folder)
    parts.run("fit", "mixture", bench.fit_mixture)
    anomalies(bench, parts)
    generation(bench, parts, arguments.anchors, arguments.threads)
    log_scores(bench, parts, arguments.anchors, arguments.threads)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = run_benchmark(__doc__, "adult", measure, argv)
    print(f"\n**summary**\n\n{bars(arguments.out)}")


if __name__ == "__main__":
    main()

"""Adult: log score of one hidden column, two-sample test of samples, rows whose entries do not belong together, fit time.

    python benchmarks/tables/adult.py --data DIR [--anchors ANCHORS/bin/python] [--only "log score"]

"log score COLUMN": mean log p(code | all other columns) over the 15,060 complete test rows, nats; everybody is asked about
the codes of our codec, and specialists are fitted for that one column. "generation": 10,000 complete test rows against as
many samples. "anomalies": 4,000 test rows against the same rows with 7 of 15 columns, chosen anew for each row, taken from
others, each column on its own.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anchors_run import log_scores_of, samples_of
from judges import auroc, c2st, pair_trends
from mixture_of_products import MixtureOfProducts
from ours import codes_of, fit_and_keep, frame_of_codes
from parts import Parts
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from specialists import boosted_trees
from tables_data import adult, arguments_of, numbers

from jointebm.estimators import JointEBM, JointEBMOutlierDetector

NUM_SAMPLES, NUM_ROWS = 10_000, 4_000
SIZES = (64, 192)  # components that the mixture chooses from


class Adult:
    """The data, our fitted model and the fitted mixture."""

    def __init__(self, data: Path, out: Path) -> None:
        self.train, self.test = adult(data)
        self.out = out

    @cached_property
    def ours(self) -> JointEBM:
        return JointEBM.load(self.out / "adult-model")

    @cached_property
    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows as codes."""
        return codes_of(self.ours, self.train), codes_of(self.ours, self.test)

    @cached_property
    def mixture(self) -> MixtureOfProducts:
        return MixtureOfProducts.load(self.out / "adult-mixture.npz")

    def fit_mixture(self) -> dict[str, float]:
        mixture = MixtureOfProducts.fit_best(self.codes[0], self.ours.codec_.num_codes, SIZES)
        mixture.save(self.out / "adult-mixture.npz")
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
    ordered = np.array(codec.is_ordered)

    def ours(j: int) -> np.ndarray:
        codes = torch.from_numpy(bench.codes[1])
        return bench.ours.model_.conditional(codes, j).numpy()[np.arange(len(codes)), codes[:, j]]

    def mixture(j: int) -> np.ndarray:
        return bench.mixture.conditional(bench.codes[1], j)[np.arange(len(bench.codes[1])), bench.codes[1][:, j]]

    methods: dict[str, Callable[[int], np.ndarray]] = {
        "JointEBM": ours,
        "mixture": mixture,
        "specialist, scikit-learn": lambda j: boosted_trees(*bench.codes, ordered, j),
    }
    if anchors is not None:
        files = {"train": bench.codes[0], "test": bench.codes[1], "ordered": ordered}
        methods["specialist, LightGBM"] = lambda j: log_scores_of(
            anchors, "lightgbm", files | {"column": np.array(j)}, threads=threads
        )
    for method, score in methods.items():
        for j in np.argsort(codec.num_codes, kind="stable").tolist():  # quick ones first
            name = codec.names[j]
            parts.run(f"log score {name}", method, lambda j=j, score=score: {"log_score": score(j).mean()})
    if anchors is not None:

        def nrgboost() -> dict[str, float]:
            scores = log_scores_of(anchors, "nrgboost_codes", files, threads=threads).mean(axis=0)
            return dict(zip(map(str, codec.names), scores, strict=True)) | {"mean": scores.mean()}

        parts.run("all log scores", "nrgboost", nrgboost)


def generation(bench: Adult, parts: Parts, anchors: Path | None, threads: int) -> None:
    """One part per generator."""
    real = bench.test.sample(NUM_SAMPLES, random_state=0)

    def judged(samples: pd.DataFrame) -> dict[str, float]:
        return {"c2st": c2st(real, samples), "pair_trends": pair_trends(real, samples)}

    rows = bench.train.dropna()
    marginals = {name: rows[name].sample(NUM_SAMPLES, random_state=j).to_numpy() for j, name in enumerate(rows)}
    generators: dict[str, Callable[[], pd.DataFrame]] = {
        "real rows": lambda: rows.sample(NUM_SAMPLES, random_state=0),
        "independent columns": lambda: pd.DataFrame(marginals),
        "JointEBM": lambda: bench.ours.sample(NUM_SAMPLES, seed=1),
        "JointEBM, 40 sweeps": lambda: frame_of_codes(
            bench.ours, bench.ours.model_.sample(NUM_SAMPLES, num_sweeps=40, seed=1).numpy()
        ),
        "mixture": lambda: frame_of_codes(bench.ours, bench.mixture.sample(NUM_SAMPLES)),
    }
    if anchors is not None:
        for name in ("nrgboost", "arf"):
            generators[name] = lambda name=name: samples_of(anchors, name, bench.train, NUM_SAMPLES, threads=threads)
    for method, draw in generators.items():
        parts.run("generation", method, lambda draw=draw: judged(draw()))


def anomalies(bench: Adult, parts: Parts) -> None:
    """One part per score."""
    codes = lambda rows: torch.from_numpy(codes_of(bench.ours, rows))  # noqa: E731
    detector = lambda: JointEBMOutlierDetector.of(bench.ours, bench.test.tail(200))  # noqa: E731
    encode = ColumnsAsNumbers(bench.train.dropna())
    scores: dict[str, Callable[[], Callable[[pd.DataFrame], np.ndarray]]] = {
        "detector's default": lambda: detector().score_samples,
        "score_samples": lambda: bench.ours.score_samples,
        "f of codes": lambda: lambda rows: bench.ours.model_.log_density(codes(rows)).numpy(),
        "conditional": lambda: lambda rows: bench.ours.model_.conditional_log_score(codes(rows)).numpy(),
        "dependence": lambda: lambda rows: bench.ours.model_.dependence(codes(rows)).numpy(),
        "mixture": lambda: lambda rows: bench.mixture.log_prob(codes(rows).numpy()),
        "mixture, dependence": lambda: lambda rows: bench.mixture.dependence(codes(rows).numpy()),
        "IsolationForest": lambda: encode.scored_by(
            IsolationForest(n_estimators=200, random_state=0).fit(encode.train).score_samples
        ),
        "5-NN": lambda: encode.scored_by(NearestNeighbors(n_neighbors=5).fit(encode.train).kneighbors, sign=-1),
    }
    for method, make in scores.items():

        def measure(make: Callable = make) -> dict[str, float]:
            score = make()
            return {"auroc": auroc(*(score(rows) for rows in bench.strange))}

        parts.run("anomalies", method, measure)


class ColumnsAsNumbers:
    """Standardised numbers and one-hot categories, for detectors that need them."""

    def __init__(self, train: pd.DataFrame) -> None:
        self.numbers, self.texts = numbers(train), [name for name in train if name not in numbers(train)]
        self.scaler = StandardScaler().fit(train[self.numbers])
        self.one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train[self.texts])
        self.train = self(train)

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        return np.hstack([self.scaler.transform(rows[self.numbers]), self.one_hot.transform(rows[self.texts])])

    def scored_by(self, score: Callable, *, sign: int = 1) -> Callable[[pd.DataFrame], np.ndarray]:
        """Scores of rows; distances to neighbours are averaged."""

        def of_rows(rows: pd.DataFrame) -> np.ndarray:
            found = score(self(rows))
            return sign * (found[0].mean(axis=1) if isinstance(found, tuple) else found)

        return of_rows


def main() -> None:
    arguments = arguments_of(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    bench, parts = Adult(arguments.data, arguments.out), Parts(arguments.out / "adult.csv", arguments.only)
    parts.run("fit", "JointEBM", lambda: fit_and_keep(bench.train, arguments.out / "adult-model"))
    parts.run("fit", "mixture", bench.fit_mixture)
    anomalies(bench, parts)
    generation(bench, parts, arguments.anchors, arguments.threads)
    log_scores(bench, parts, arguments.anchors, arguments.threads)
    parts.print_table(beside="log score ")


if __name__ == "__main__":
    main()

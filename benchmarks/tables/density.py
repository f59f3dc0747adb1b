"""One density: weights between groups of rows, log Z, conditionals, and samples that do not depend on the number of sweeps.

    python benchmarks/tables/density.py --data DIR [--only "two kinds"] [--report]

"two kinds": 8 binary columns, .05 or .95 in the two kinds, which have weights .8 and .2; all 256 rows are enumerated.
"rare class": a class of 1% with a number of its own. "several missing": predictions with 2 to 4 missing
entries against the exact marginals of the same density. "nltcs": test log-likelihood by our own log Z and by enumeration.
"smooth" and "adult": C2ST of samples after 1, 10, 100 and 400 sweeps against held-out rows, the mean of several samples of
at most 4,000 rows, each against the next rows of the test part, where sweeps are few; one sample has a standard deviation
of about .015. CPU seconds include the judge.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import torch
from command_line import run_benchmark
from judges import c2st
from nltcs import STATES
from ours import bins_of, codes_of, log_prob_of_bin
from parts import Parts
from tables_data import adult, read_table, split

from jointebm.estimators import JointEBM

NUM_SETS = {1: 6, 10: 6, 100: 3, 400: 1}  # samples, by the number of sweeps
NUM_SAMPLES = 4000
HIGH, WEIGHT = 0.95, 0.2


def two_kinds(num_rows: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    is_rare = generator.random(num_rows) < WEIGHT
    high = np.where(is_rare, HIGH, 1 - HIGH)
    return pd.DataFrame({f"bit{j}": (generator.random(num_rows) < high).astype(int) for j in range(8)})


def of_two_kinds(num_rows: int, seed: int) -> dict[str, float]:
    """exp F by enumeration, and samples; a row is of the rare kind if more than half of its bits are set."""
    train = two_kinds(num_rows, seed)
    model = JointEBM(random_state=seed, relations=None).fit(train)
    rows = pd.DataFrame(list(product((0, 1), repeat=8)), columns=list(train))
    ones = rows.sum(axis=1).to_numpy()
    rare, frequent = HIGH**ones * (1 - HIGH) ** (8 - ones), (1 - HIGH) ** ones * HIGH ** (8 - ones)
    truth = WEIGHT * rare + (1 - WEIGHT) * frequent
    found = model.model_.log_prob(torch.from_numpy(codes_of(model, rows)), seed=0).exp().numpy()
    scores = model.score_samples(rows)
    shares = []
    for sweeps in (10, 1000):
        drawn = model.set_params(num_sweeps=sweeps).sample(20_000, seed=seed)
        shares.append(float((drawn.sum(axis=1) > 4).mean()))
    return {
        "tv": 0.5 * np.abs(found - truth).sum(),
        "sum_of_p": found.sum(),
        "score_difference": scores[-1] - scores[0],
        "true_difference": np.log(truth[-1] / truth[0]),
        "share_10_sweeps": shares[0],
        "share_1000_sweeps": shares[1],
        "true_share": truth[ones > 4].sum(),
        "share_in_train": float((train.sum(axis=1) > 4).mean()),
    }


def of_rare_class() -> dict[str, float]:
    generator, num = np.random.default_rng(7), 20_000
    kind = np.where(generator.random(num) < 0.01, "rare", "common")
    number = (np.where(kind == "rare", 5.0, 0.0) + generator.normal(size=num)).round(0).astype(int)
    train = pd.DataFrame({"kind": kind, "number": number})
    model = JointEBM(training={"num_visits": 10}, relations=None).fit(train)
    asked = pd.DataFrame({"number": [5], "kind": [None]})
    drawn = model.sample(2000, given={"number": (4, None)})
    return {
        "mean_given_rare": model.sample(2000, given={"kind": "rare"})["number"].mean(),
        "in_train": train.number[train.kind == "rare"].mean(),
        "predicted_rare": model.predict_proba(asked, "kind")[0, list(model.classes("kind")).index("rare")],
        "imputed_rare": np.mean([frame["kind"][0] == "rare" for frame in model.draw_imputations(asked, 300)]),
        "rare_given_4_or_more": float((drawn["kind"] == "rare").mean()),
        "rare_in_train": float((train.kind[train.number >= 4] == "rare").mean()),
    }


def of_several_missing(model: JointEBM, test: pd.DataFrame, num_missing: int) -> dict[str, float]:
    """Mean total variation of predictions to the exact marginals, rows that are enumerated by `predictive` included."""
    density, generator = model.model_, np.random.default_rng(num_missing)
    codes = torch.from_numpy(codes_of(model, test.dropna().head(400)))
    classes = np.array(density.num_classes)
    distances: list[float] = []
    for row in codes:
        columns = generator.choice(len(classes), num_missing, replace=False)
        if classes[columns].prod() > 200_000 or len(distances) == 40:
            continue
        target, others = int(columns[0]), [int(each) for each in columns[1:]]
        asked = row[None].clone()
        asked[:, columns] = -1
        settings = torch.cartesian_prod(*[torch.arange(int(classes[each])) for each in others])
        rows = row.repeat(len(settings), 1)
        rows[:, others] = settings.reshape(len(settings), -1)
        with torch.no_grad():
            exact = torch.cat([density.energy.of_classes(part, target) for part in rows.split(512)])
        truth = exact.logsumexp(dim=0).softmax(dim=0)
        found = density.predictive(asked, target, seed=0)[0].exp()
        distances.append(0.5 * float((found - truth).abs().sum()))
    return {"tv": float(np.mean(distances)), "worst": max(distances), "rows": len(distances)}


def of_nltcs(arguments: Namespace) -> dict[str, float]:
    train, test = (read_table(arguments.data, f"nltcs_{part}") for part in ("train", "test"))
    names = [f"v{j}" for j in range(16)]
    train.columns = test.columns = names
    model = JointEBM(relations=None).fit(train)
    states = torch.from_numpy(codes_of(model, pd.DataFrame(STATES, columns=names)))
    log_normalizer = float(model.model_.log_density(states).double().logsumexp(dim=0))
    scores = model.model_.log_prob(torch.from_numpy(codes_of(model, test)), seed=0)
    return {
        "test_log_likelihood": float(scores.mean()),
        "by_enumeration": float(scores.mean()) + model.model_.log_normalizer - log_normalizer,
        "log_z_error": model.model_.log_normalizer - log_normalizer,
        "stated_error": model.report_.log_normalizer_error or np.nan,
    }


def smooth() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Like the diamonds data: sizes that determine one another nearly, a price with a curve, ordinal grades; 70% train."""
    generator, num = np.random.default_rng(3), 12_000
    carat = np.exp(generator.normal(-0.4, 0.58, num)).clip(0.2, 5).round(2)
    grades = [(generator.normal(-0.25 * np.log(carat), 1.0) * 1.4 + 3).round().clip(0, top) for top in (4, 6, 7)]
    cut, color, clarity = (grade.astype(int) for grade in grades)
    length = (6.4 * carat ** (1 / 3) * np.exp(generator.normal(0, 0.008, num))).round(2)
    width = (length * np.exp(generator.normal(0.002, 0.007, num))).round(2)
    depth = (61.8 + generator.normal(0, 1.2, num) - 0.4 * (cut - 2)).round(1)
    height = ((length + width) / 2 * depth / 100).round(2)
    table = (57.5 + generator.normal(0, 2, num) - 0.5 * (depth - 61.8)).round()
    quality = 0.07 * color + 0.1 * clarity + 0.03 * cut
    price = np.exp(
        8.1 + 1.75 * np.log(carat) - 0.12 * np.log(carat) ** 2 + quality - 0.75 + generator.normal(0, 0.12, num)
    )
    columns = {
        "carat": carat,
        "cut": np.array(list("abcde"))[cut],
        "color": np.array(list("DEFGHIJ"))[color],
        "clarity": np.array(["I1", "S2", "S1", "V2", "V1", "W2", "W1", "IF"])[clarity],
        "depth": depth,
        "table": table,
        "price": price.round(),
        "x": length,
        "y": width,
        "z": height,
    }
    return split(pd.DataFrame(columns), test_share=0.3, seed=0)


class Bench:
    """Fits once, and keeps the model of a table."""

    def __init__(self, arguments: Namespace) -> None:
        self.folder, self.data = arguments.out, arguments.data
        self.tables: dict[str, Callable[[], tuple[pd.DataFrame, pd.DataFrame]]] = {
            "smooth": cache(smooth),
            "adult": cache(lambda: adult(self.data)),
        }

    def fit(self, name: str) -> dict[str, float]:
        model = JointEBM(relations=None).fit(self.tables[name]()[0])
        model.save(self.folder / f"density-{name}")
        report = model.report_.model_dump()
        return {key: value for key, value in report.items() if value is not None}

    def model(self, name: str) -> JointEBM:
        return JointEBM.load(self.folder / f"density-{name}")

    def samples(self, name: str, sweeps: int) -> dict[str, float]:
        test = self.tables[name]()[1]
        num_blocks, size = max(1, len(test) // NUM_SAMPLES), min(NUM_SAMPLES, len(test))
        model = self.model(name).set_params(num_sweeps=sweeps)
        found = []
        for number in range(NUM_SETS[sweeps]):
            first = number % num_blocks * size
            real = test[first : first + size].reset_index(drop=True)
            found.append(c2st(real, model.sample(size, seed=1 + number)))
        error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
        return {"c2st": float(np.mean(found)), "c2st_error": float(error)}

    def log_score(self, name: str) -> dict[str, float]:
        model, test = self.model(name), self.tables[name]()[1].head(NUM_SAMPLES)
        codes = codes_of(model, test)
        scores = [
            log_prob_of_bin(model.model_.conditional(torch.from_numpy(codes), j).numpy(), codes[:, j], bins).mean()
            for j, bins in enumerate(bins_of(model))
        ]
        return {"log_score": float(np.mean(scores))}


def measure(arguments: Namespace, parts: Parts) -> None:
    bench = Bench(arguments)
    for num_rows in (900, 4000):
        for seed in range(3):
            parts.run(
                f"two kinds: {num_rows} rows",
                f"seed {seed}",
                lambda num_rows=num_rows, seed=seed: of_two_kinds(num_rows, seed),
            )
    parts.run("rare class", "JointEBM", of_rare_class)
    parts.run("nltcs", "JointEBM", lambda: of_nltcs(arguments))
    for name in ("smooth", "adult"):
        parts.run(f"fit: {name}", "JointEBM", lambda name=name: bench.fit(name))
        parts.run(f"log score: {name}", "JointEBM", lambda name=name: bench.log_score(name))
        for num_missing in (2, 3, 4):
            parts.run(
                f"several missing: {name}, {num_missing}",
                "JointEBM",
                lambda name=name, num_missing=num_missing: of_several_missing(
                    bench.model(name), bench.tables[name]()[1], num_missing
                ),
            )
        for sweeps in NUM_SETS:
            parts.run(
                f"c2st: {name}, {sweeps} sweeps",
                "JointEBM",
                lambda name=name, sweeps=sweeps: bench.samples(name, sweeps),
            )


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "density", measure, argv)


if __name__ == "__main__":
    main()

"""C2ST of generators trained with 20% and 50% of all entries missing, relative to complete data.

    python benchmarks/tables/holes.py --data DIR [--report]      (adult.py measures the complete rows)

Training rows of Adult with entries hidden at random, compared with 10,000 complete test rows as in adult.py.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

import pandas as pd
from command_line import run_benchmark
from judges import judge_samples
from mixture_of_products import MixtureOfProducts
from ours import codes_of, frame_of_codes, run_fit
from parts import Parts
from tables_data import adult, with_holes

from jointebm.estimators import JointEBM

NUM_SAMPLES, SIZES = 10_000, (64, 192)


def of_mixture(model: JointEBM, train: pd.DataFrame) -> pd.DataFrame:
    """The mixture in the codes of our model of the same incomplete rows; EM marginalises missing entries."""
    mixture = MixtureOfProducts.fit_best(codes_of(model, train), model.codec_.num_codes, SIZES)
    return frame_of_codes(model, mixture.sample(NUM_SAMPLES))


def measure(arguments: Namespace, parts: Parts) -> None:
    train, test = adult(arguments.data)
    real = test.sample(NUM_SAMPLES, random_state=0)
    for percent in (50, 20):
        holed = with_holes(train, percent / 100, seed=9)
        folder = arguments.out / f"adult-model-{percent}-missing"
        run_fit(parts, f"fit: {percent}% missing", holed, folder)
        methods: dict[str, Callable[[JointEBM], pd.DataFrame]] = {
            "JointEBM": lambda model: model.sample(NUM_SAMPLES, seed=1),
            "mixture": lambda model, holed=holed: of_mixture(model, holed),
        }
        for method, draw in methods.items():
            parts.run(
                f"holes: {percent}% missing",
                method,
                lambda draw=draw, folder=folder: judge_samples(real, draw(JointEBM.load(folder))),
            )


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "holes", measure, argv)


if __name__ == "__main__":
    main()

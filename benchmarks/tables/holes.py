"""Trained with 20% and 50% of all entries missing: the share of its complete-data C2ST that a generator keeps.

    python benchmarks/tables/holes.py --data DIR      (after adult.py, whose models of the whole rows it takes)

Adult's training rows, entries hidden at random; judged against 10,000 complete test rows as in adult.py.
"""

from pathlib import Path

import pandas as pd
import torch
from judges import c2st, pair_trends
from mixture_of_products import MixtureOfProducts
from ours import codes_of, frame_of_codes
from parts import Parts
from tables_data import adult, arguments_of, with_holes

from jointebm.estimators import JointEBM

NUM_SAMPLES, SIZES = 10_000, (64, 192)


def samples_of_ours(train: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Fitted with all defaults, unless it is kept already; all else than the share of holes is as in adult.py."""
    if not folder.exists():
        JointEBM().fit(train).save(folder)
    return JointEBM.load(folder).sample(NUM_SAMPLES, seed=1)


def samples_of_mixture(train: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """In the codes of our model of the same rows, with holes; EM leaves missing entries out."""
    model = JointEBM.load(folder)
    mixture = MixtureOfProducts.fit_best(codes_of(model, train), model.codec_.num_codes, SIZES)
    return frame_of_codes(model, mixture.sample(NUM_SAMPLES))


def main() -> None:
    arguments = arguments_of(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    train, test = adult(arguments.data)
    real = test.sample(NUM_SAMPLES, random_state=0)
    parts = Parts(arguments.out / "holes.csv", arguments.only)
    for share in (0.0, 0.5, 0.2):
        holed = with_holes(train, share, seed=9) if share else train
        folder = arguments.out / (f"adult-model-holes-{share}" if share else "adult-model")
        for method, draw in (("JointEBM", samples_of_ours), ("mixture", samples_of_mixture)):

            def judged(draw=draw, holed=holed, folder=folder) -> dict[str, float]:
                samples = draw(holed, folder)
                return {"c2st": c2st(real, samples), "pair_trends": pair_trends(real, samples)}

            parts.run(f"{share:.0%} missing", method, judged)
    parts.print_table()
    table = parts.table().query("metric == 'c2st'").pivot(index="part", columns="method", values="value")
    print("\nshare of the complete-data C2ST kept\n", (table / table.loc["0% missing"]).round(3).to_string())


if __name__ == "__main__":
    main()

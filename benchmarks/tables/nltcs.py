"""NLTCS: exact test log-likelihood of 16 binary variables, by enumeration of all 65,536 states.

    python benchmarks/tables/nltcs.py --data DIR [--report]

Fitted on the training rows alone; those of validation choose the size of the mixture, and nothing of ours. Nats per row.
"""

from argparse import Namespace
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
import torch
from command_line import run_benchmark
from mixture_of_products import MixtureOfProducts
from ours import codes_of
from parts import Parts
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from tables_data import read_table

from jointebm.estimators import JointEBM

STATES = np.array(list(product((0, 1), repeat=16)))


def ours(train: np.ndarray, others: dict[str, np.ndarray], **choices: object) -> dict[str, float]:
    """F of every state gives log Z: 0 and 1 are atoms, so the density inside the codes is 1."""
    model = JointEBM(**choices).fit(pd.DataFrame(train))
    codes = torch.from_numpy(codes_of(model, pd.DataFrame(STATES)))
    log_density = model.model_.log_density(codes).double()
    log_probs = (log_density - log_density.logsumexp(dim=0)).numpy()
    return {name: log_probs[_number(rows)].mean() for name, rows in others.items()}


def chow_liu(train: np.ndarray, others: dict[str, np.ndarray]) -> dict[str, float]:
    """The best tree: maximal mutual information, each variable given its parent."""
    num_rows, num_columns = train.shape
    joint = np.zeros((num_columns, num_columns, 2, 2))
    for a, b in product((0, 1), repeat=2):
        joint[:, :, a, b] = ((train == a).T.astype(float) @ (train == b) + 0.25) / (num_rows + 1)
    single = (np.stack([(train == a).sum(axis=0) for a in (0, 1)], axis=1) + 0.5) / (num_rows + 1)
    information = np.zeros((num_columns, num_columns))
    for i, j in combinations(range(num_columns), 2):
        information[i, j] = (joint[i, j] * np.log(joint[i, j] / np.outer(single[i], single[j]))).sum()
    tree = minimum_spanning_tree(csr_array(np.triu(1e-9 - information - 1, 1)))  # most negative first
    order, parents = breadth_first_order(tree, 0, directed=False)

    def log_prob(rows: np.ndarray) -> np.ndarray:
        total = np.log(single[0, rows[:, 0]])
        for child in order[1:]:
            of_pair = joint[parents[child], child] / joint[parents[child], child].sum(axis=1, keepdims=True)
            total += np.log(of_pair[rows[:, parents[child]], rows[:, child]])
        return total

    return {name: log_prob(rows).mean() for name, rows in others.items()}


def mixture(train: np.ndarray, others: dict[str, np.ndarray], sizes: tuple[int, ...]) -> dict[str, float]:
    """The mixture with the best size on the validation rows."""
    fits = [MixtureOfProducts.fit(train, (2,) * 16, size) for size in sizes]
    best = max(fits, key=lambda fit: fit.log_prob(others["valid"]).mean())
    return {name: best.log_prob(rows).mean() for name, rows in others.items()} | {"components": len(best.log_weights)}


def _number(rows: np.ndarray) -> np.ndarray:
    """Place of each row in `STATES`."""
    return rows @ (1 << np.arange(15, -1, -1))


def measure(arguments: Namespace, parts: Parts) -> None:
    rows = {part: read_table(arguments.data, f"nltcs_{part}").to_numpy() for part in ("train", "valid", "test")}
    train = rows["train"]
    parts.run("log-likelihood", "independent", lambda: mixture(train, rows, (1,)))
    parts.run("log-likelihood", "Chow-Liu", lambda: chow_liu(train, rows))
    parts.run("log-likelihood", "mixture", lambda: mixture(train, rows, (32, 100)))
    parts.run("log-likelihood", "JointEBM", lambda: ours(train, rows))


def main(argv: Sequence[str] | None = None) -> None:
    run_benchmark(__doc__, "nltcs", measure, argv)


if __name__ == "__main__":
    main()

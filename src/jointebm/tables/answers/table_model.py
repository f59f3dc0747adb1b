"""A joint density over rows of codes, fitted to rows with missing entries: conditionals, completions and scores.

Legend: N rows, V columns, K_j classes of column j, D draws. Codes are integers in 0..K_j-1; -1 is missing.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

from torch import Tensor

from jointebm.randomness.devices import Device, place_of
from jointebm.references import ProductMixture
from jointebm.references.masked_network import MaskedNetwork
from jointebm.tables.answers.checked_codes import checked_codes
from jointebm.tables.answers.code_questions import CodeQuestions
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy
from jointebm.tables.training.bins import ColumnSpread, checked_bins, checked_spreads
from jointebm.tables.training.fit_record import FitRecord, identity_of, run_fit
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_fit import TableFit
from jointebm.tables.training.table_report import FitReport, in_data_units
from jointebm.training.world import ALONE, World

__all__ = ["TableModel"]


class TableModel(CodeQuestions):
    """log p(c) = F(c) - log Z over rows of V codes.

    An estimate about a row depends on that row and the seed alone, bit for bit: what it averages over comes from streams
    keyed by the row's content. Completions come from streams keyed by row number, or by `keys`, so that equal rows get
    independent draws. Answers are exact where one entry is missing, or the missing entries have few configurations (256, or
    up to 4,096 where other ways cost as much). Otherwise they start from draws of the proposal given what is known, and
    weights or moves correct these; a `ConvergenceWarning` says where that is not enough.

    Args:
        energy: F.
        report: of the fit, which holds log Z; None takes log Z for 0.

    Example:
        >>> import torch
        >>> codes = torch.tensor([[0, 0, 1], [1, 1, -1]]).repeat(60, 1)
        >>> model = TableModel.fit(codes, (2, 2, 2), seed=0)
        >>> model.predictive(torch.tensor([[-1, 0, -1]]), 0, seed=0).argmax().item()
        0
        >>> model.complete(torch.tensor([[-1, 1, -1]]), num_draws=3, seed=0).shape
        torch.Size([3, 1, 3])
    """

    def __init__(self, energy: TableEnergy, report: FitReport | None = None) -> None:
        super().__init__()
        self.energy, self.report = energy, report

    @property
    def num_classes(self) -> tuple[int, ...]:  # type: ignore[override]
        """K_j of each column."""
        return self.energy.num_classes

    @property
    def log_normalizer(self) -> float:  # type: ignore[override]
        """log Z, nats."""
        return 0.0 if self.report is None else self.report.log_normalizer

    @property
    def prior_strength(self) -> float:
        """Of the reference, in rows per component, as the fit chose it."""
        assert self.report is not None and self.report.prior_strength is not None  # it has been fitted here
        return self.report.prior_strength

    @classmethod
    def fit(
        cls,
        codes: Tensor,
        num_classes: Sequence[int],
        *,
        bins: Sequence[Sequence[int] | None] | None = None,
        spreads: Sequence[ColumnSpread] | None = None,
        config: TableConfig | None = None,
        seed: int,
        on_progress: Callable[[Progress], object] | None = None,
        run: str | os.PathLike[str] | None = None,
        weights: Tensor | None = None,
        inside: Callable[[Tensor], Tensor] | None = None,
        device: Device = "auto",
        world: World = ALONE,
    ) -> Self:
        """Fits to rows with missing entries.

        With `run`, an interrupted fit resumes when it is called again with the same arguments, and ends bit for bit as an
        uninterrupted one.

        Args:
            codes: whole numbers, shape (N, V), -1 is missing.
            num_classes: K_j of each column.
            bins: per column, the bin of each code, ascending from 0, if the order of its codes has a meaning (numbers), else
                None. What is learned of a code is learned in part of its neighbours, and the reference is constant over a
                bin but for the frequencies of its codes. None: no column has an order.
            spreads: per column, the share of a row of each code (columns) that counts for each code (rows) in marginals and
                reference, shape (K_j, K_j), columns sum to one; None: every row counts for its own code.
            config: how to train; None is the default.
            seed: of all draws of training.
            on_progress: called whenever the held-out rows are scored.
            run: folder for checkpoints and metrics.jsonl; None writes nothing.
            weights: of the rows, positive, shape (N,); None weighs all alike.
            inside: log p of the values of rows given their codes, nats, from the places of these rows in `codes`: the report
                then states the log-likelihood of held-out rows in data units too. Called once, with the held-out rows, one
                of them several times where weights repeat it. Of no effect on the fit.
            device: where to fit, and where the model is; see `place_of`.
            world: the processes that fit together, which call this with the same arguments; see `processes`.

        Raises:
            ValueError: no rows, no columns, bins that do not fit, a code that its column does not have, a device that this
                machine does not have, or `run` holds checkpoints of another fit.
            Diverged: numbers were not finite or not usual, and rollbacks at half the learning rate did not help.
        """
        codes, place = checked_codes(codes, tuple(num_classes)), place_of(device)
        if not codes.numel():
            raise ValueError(
                f"fit: got {codes.shape[0]} rows of {codes.shape[1]} columns; a model needs at least one of each"
            )
        bins, of_rows = checked_bins(bins, num_classes), checked_spreads(spreads, num_classes)
        config = config or TableConfig()
        fit = TableFit(
            codes.to(place),
            tuple(num_classes),
            bins=bins,
            spreads=of_rows,
            config=config,
            seed=seed,
            weights=weights,
            world=world,
        )
        held = inside(fit.held_out.cpu()).double() if inside is not None and len(fit.held_out) else None
        record = None
        if run is not None:
            identity = identity_of(
                codes, num_classes, bins=bins, spreads=of_rows, config=config, seed=seed, weights=weights
            )
            record = FitRecord(run, identity, world)
        report = run_fit(fit, record=record, on_progress=on_progress, world=world)
        known: dict[str, float | None] = {
            "prior_strength": fit.prior_strength,
            "is_judged": fit.is_judged or not len(fit.held_out),
        }
        if held is not None:
            known |= in_data_units(fit.held_out_scores.cpu(), held, report)
        report = report.model_copy(update=known)
        return cls(fit.energy, report).eval()

    def spec(self) -> dict[str, Any]:
        """The shapes of the model as JSON data, for `from_spec`."""
        residual = self.energy.residual
        of_base = {}
        if isinstance(residual, Rebased):
            of_base, residual = {"num_base_components": len(residual.base.log_weights)}, residual.net
        of_network = {}
        if (network := self.energy.network) is not None:
            sizes = {
                "num_components": len(network.mixture.log_weights),
                "width": len(network.bias),
                "num_layers": len(network.weights) + 1,
            }
            of_network = {"proposal": sizes}
        return {
            "num_classes": list(self.num_classes),
            "num_components": len(self.energy.reference.log_weights),
            **of_base,
            **of_network,
            "width": len(residual.bias),
            "num_layers": len(residual.weights) + 1,
            "num_table_rows": residual.num_table_rows,
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Makes an unfitted model with the shapes of `spec`."""
        reference = ProductMixture(spec["num_classes"], spec["num_components"])
        sizes_of_residual = {name: spec[name] for name in ("width", "num_layers", "num_table_rows")}
        residual: Residual | Rebased = Residual(spec["num_classes"], **sizes_of_residual)
        if "num_base_components" in spec:
            assert isinstance(residual, Residual)
            base = ProductMixture(spec["num_classes"], spec["num_base_components"])
            residual = Rebased(residual, base, reference)
        network = None
        if (sizes := spec.get("proposal")) is not None:
            mixture = ProductMixture(spec["num_classes"], sizes["num_components"])
            network = MaskedNetwork(mixture, width=sizes["width"], num_layers=sizes["num_layers"])
        return cls(TableEnergy(reference, residual, network)).eval()

"""What a fit says about itself: log Z, chains, held-out log-likelihood, moments, weights of components, calibration."""

from pydantic import Field

from jointebm.storage.config import Config

__all__ = ["MAX_Z", "ChainRecord", "Estimate", "Moment", "NormalizerRecord", "Report"]

MAX_Z = 4.0  # standard errors between a moment of the model and of the data; beyond it the report says so


class NormalizerRecord(Config):
    """log Z of f, as `sampling.log_normalizer` or the weighted chains of training estimated it."""

    value: float = Field(description="nats")
    standard_error: float | None = Field(description="of the value; null: one draw held all weight")
    upper: float | None = Field(None, description="estimate from the data's end; null: not made")
    ess: float = Field(description="effective number of draws")
    method: str = Field(max_length=100, description="how it was found")

    def __str__(self) -> str:
        error = "?" if self.standard_error is None else f"{self.standard_error:.4f}"
        upper = "" if self.upper is None else f", from the other end {self.upper:.4f}"
        return f"{self.value:.4f} +- {error} nats{upper} (ess {self.ess:.0f}, {self.method})"


class ChainRecord(Config):
    """Of chains after the fit that start from reweighted draws of the reference."""

    num_draws: int = Field(description="draws of the reference that starts were chosen from")
    ess: float = Field(description="effective number of these draws, (sum w)^2 / sum w^2")
    num_steps: int = Field(description="kernel steps of each chain")
    accept_rate: dict[str, float] = Field(description="mean acceptance probability of each kernel")
    r_hat: float | None = Field(
        None, description="largest split R-hat of f and every real and label; null: no trajectory"
    )

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:.2f}" for name, rate in self.accept_rate.items())
        r_hat = "" if self.r_hat is None else f"; split R-hat {self.r_hat:.3f}"
        return f"ess {self.ess:.0f} of {self.num_draws} draws; accepted: {rates or 'no moves'}{r_hat}"


class Estimate(Config):
    """A mean with its standard error."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} +- {self.standard_error:.3f}"


class Moment(Config):
    """A moment under the model and in the data."""

    name: str = Field(max_length=200)
    model: float
    data: float
    z: float = Field(description="difference in standard errors of both")


class Report(Config):
    """What a fit reached; `str` is its text in the model card."""

    num_rows: int = Field(description="training rows")
    num_held_out: int = Field(description="rows that stopping and the choices looked at")
    held_out: Estimate = Field(description="log-likelihood of F per held-out row, nats, in position units")
    held_out_reference: Estimate = Field(description="the same of the reference")
    moments: tuple[Moment, ...] = Field(description="the worst one- and two-way moments, by z")
    num_moments: int = Field(description="moments compared")
    component_weights: tuple[tuple[float, float], ...] = Field(
        (), description="of each component of the reference: under F and in the data"
    )
    calibration_factor: float | None = Field(
        None, description="factor on f that is best for held-out labels given the rest; 1 is calibrated"
    )
    iterations: int = Field(description="parameter updates done")
    best_iteration: int = Field(description="that of the kept parameters; 0 is the reference itself")
    negatives: str = Field(max_length=100, description="what the last iteration drew: draws or chains")

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, in words; empty if nothing is."""
        found = []
        if self.best_iteration == 0:
            found.append("training did not improve on the reference on held-out rows: the model is the reference")
        elif self.held_out.value < self.held_out_reference.value:
            found.append(
                "the held-out log-likelihood is below that of the reference: train longer, or with a smaller rate"
            )
        poor = [moment for moment in self.moments if abs(moment.z) > MAX_Z]
        if poor:
            worst = max(poor, key=lambda moment: abs(moment.z))
            found.append(f"moments differ from the data, most of all {worst.name}: {worst.z:+.1f} standard errors")
        if self.calibration_factor is not None and not 0.5 < self.calibration_factor < 2:
            found.append(f"labels are not calibrated: f times {self.calibration_factor:.2f} is better for them")
        return tuple(found)

    def __str__(self) -> str:
        lines = [
            f"{self.num_rows} training rows, {self.num_held_out} held out; {self.iterations} iterations, the best after "
            f"{self.best_iteration}; the last negative phase by {self.negatives}.",
            f"Held-out log-likelihood: {self.held_out} nats per row; of the reference {self.held_out_reference}.",
        ]
        if self.moments:
            worst = self.moments[0]
            lines.append(
                f"Largest of {self.num_moments} differences of moments: {worst.name}, model {worst.model:.3f}, data "
                f"{worst.data:.3f} (z {worst.z:+.1f})."
            )
        if self.component_weights:
            pairs = ", ".join(f"{model:.3f} ({data:.3f})" for model, data in self.component_weights)
            lines.append(f"Weights of the reference's components under F (in the data): {pairs}.")
        if self.calibration_factor is not None:
            lines.append(f"Calibration factor of the labels: {self.calibration_factor:.2f}.")
        lines += [f"Failure: {failure}." for failure in self.failures]
        return "\n".join(lines)

"""Description of a block model: `config.json` of its folder."""

from typing import Annotated, Any, Literal

from pydantic import Field

from jointebm.energies.specs import EnergySpec
from jointebm.inference.reports import ChainRecord, NormalizerRecord, Report
from jointebm.kernels import KernelSpec
from jointebm.storage.config import MAX_COUNT, Config

__all__ = ["ModelConfig"]

# Names become parts of file names and are printed: no slashes, and nothing that a terminal would act on.
_Name = Annotated[str, Field(pattern=r"^[^\p{C}/\\]+$", max_length=200)]


class ModelConfig(Config):
    """Everything of a model but its weights and noise: `config.json` of a model folder.

    Example:
        >>> import jointebm
        >>> config = jointebm.load("pretrained:toy").config
        >>> config.name, config.kernel.continuous, config.log_normalizer is not None
        ('toy', 'mala', True)
    """

    format: Literal[1] = Field(1, description="version of this layout")
    name: _Name = Field(description="name of the recipe it was trained by")
    data: _Name = Field(description="name of the data it was trained on")
    space: dict[_Name, dict[str, Any]] = Field(description="blocks, by name")
    energy: EnergySpec = Field(description="the network")
    kernel: KernelSpec = Field(description="the kernel that samples it")
    num_chains: int = Field(10, ge=1, le=MAX_COUNT, description="chains of the sample-based vote")
    num_steps: int = Field(
        200, ge=1, le=MAX_COUNT, description="kernel steps from noise, or the reference, when sampling"
    )
    weighted: bool = Field(
        True,
        description="with a reference: whether starts of chains are chosen by their weights, and chains jump; else they "
        "start at its draws",
    )
    log_normalizer: NormalizerRecord | None = Field(None, description="log Z; null: not known, f is not normalised")
    diagnostics: ChainRecord | None = Field(None, description="of 500 chains after the fit")
    report: Report | None = Field(None, description="of the fit")

    @property
    def findings(self) -> str:
        """log Z, diagnostics and report in words; empty for a model without them."""
        found = []
        if self.log_normalizer is not None:
            found.append(f"log Z of f: {self.log_normalizer}.")
        if self.diagnostics is not None:
            found.append(f"Chains after the fit: {self.diagnostics}.")
        if self.report is not None:
            found.append(str(self.report))
        return "\n\n".join(found)

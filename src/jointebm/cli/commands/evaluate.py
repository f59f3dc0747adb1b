"""`jointebm evaluate`: evaluates a model of blocks."""

from typing import Annotated

import typer

from jointebm.cli.options import DataDir, DeviceOption, Json, ModelName, Seed, Threads, number_option

__all__ = ["evaluate"]


def evaluate(
    model: ModelName,
    *,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="A,B",
            help="Decoders: sample, gibbs, exact (default: all that are affordable).",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int | None, number_option("--rows", 1, 10**9, "Use only the first N test rows.")] = None,
    samples: Annotated[
        int | None,
        number_option(
            "--samples",
            1,
            10**9,
            "Also draw and judge N samples given each value of each label; for captions, N in all.",
        ),
    ] = None,
    ood: Annotated[
        bool,
        typer.Option(
            "--ood",
            help="Also report how well the model tells its test rows from Fashion-MNIST, uniform noise and shuffled "
            "pixels (28 x 28 images only).",
        ),
    ] = False,
    parts: Annotated[
        bool,
        typer.Option(
            "--parts",
            help="Also report labels from parts of each row and under noise, and, with --samples, draws from the highest "
            "noise and in-paintings of ambiguous halves (models of any subset only).",
        ),
    ] = False,
    seed: Seed = 0,
    data: DataDir = None,
    device: DeviceOption = "auto",
    threads: Threads = None,  # noqa: ARG001  # its callback sets them
    as_json: Json = False,
) -> None:
    """Evaluate a model on the test rows of its data.

    Reports accuracy by decoder and calibration and, on request, the quality of samples and the detection of
    out-of-distribution images. Of a model of captions it reports whether its answers are true.
    """
    from jointebm.cli.blocks.evaluate import Reported, run_evaluation

    reported = Reported(methods=methods, num_rows=rows, num_samples=samples, outliers=ood, parts=parts)
    run_evaluation(model, data, reported, device=device, seed=seed, as_json=as_json)

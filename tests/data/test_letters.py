"""Specification of the data with structured labels: words, masks, sets and grids of spins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm.data import IsingGrids, Sets, dsprites, segmentation
from jointebm.data.letters import BLANK, NUM_PLACES, letters
from jointebm.energies import IsingEnergy
from support.letter_files import words, write


def test_words_hold_the_letters_of_the_file_in_order_and_blanks_after_their_end(tmp_path: Path) -> None:
    arrays = words()
    data = letters(write(tmp_path, arrays), fold=3)
    ends = arrays["lengths"].cumsum()
    bits = np.unpackbits(arrays["pixels"], axis=1).reshape(-1, 16, 8)
    rows = {True: iter(range(4)), False: iter(range(36))}
    for word, (end, length) in enumerate(zip(ends, arrays["lengths"], strict=True)):
        trained = arrays["folds"][word] == 3
        part, row = data.train if trained else data.held_out, next(rows[bool(trained)])
        assert (part["letters"][row, :length] == arrays["labels"][end - length : end]).all()
        assert (part["image"][row, :length] == bits[end - length : end]).all()
        assert (part["letters"][row, length:] == BLANK).all() and not part["image"][row, length:].any()
    assert len(data.train["letters"]) == 4 and len(data.held_out["letters"]) == 36


def test_positions_are_pixels(tmp_path: Path) -> None:
    data = letters(write(tmp_path, words()))
    position = data.space.encode(data.test())[0]
    assert torch.equal(position["image"], torch.tensor(data.held_out["image"]).float())
    assert position["letters"].shape == (36, NUM_PLACES, BLANK + 1)


def test_training_hides_half_of_the_pixels(tmp_path: Path) -> None:
    data, generator = letters(write(tmp_path, words(700))), torch.Generator().manual_seed(0)
    batch = data.rows(200, generator=generator)
    assert batch.numbers is not None
    whole = torch.tensor(data.train["image"])[batch.numbers].float()
    seen = batch.position["image"]
    assert bool(((seen == 0) | (seen == 2 * whole)).all())  # kept pixels are divided by one half
    num = int(whole.sum())
    assert abs(float((seen > 0).sum()) / num - 0.5) < 5 * 0.5 / num**0.5
    again = data.rows(200, generator=torch.Generator().manual_seed(0)).position["image"]
    assert torch.equal(again, seen)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"folds": None}, "lacks array 'folds'"),
    ({"labels": np.zeros(3, np.uint8)}, r"expected whole numbers pixels \(L, 16\)"),
    ({"lengths": np.full(40, 0.5)}, "expected whole numbers"),
    ({"lengths": np.full(40, 15, np.int16)}, "lengths must lie in 1 .. 14 and sum to"),
    ({"folds": np.zeros(40, np.uint8)}, "fold 0 holds 40 of 40 words"),
    ({"labels": words()["labels"] + 1}, r"labels must lie in 0 .. 25, got \d+ .. 26"),
    ({"folds": np.ones(40, np.uint8)}, "fold 0 holds 0 of 40 words"),
]


@pytest.mark.parametrize(("changed", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_file_with_other_arrays_is_refused_by_name(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    arrays = {name: array for name, array in (words() | changed).items() if array is not None}
    with pytest.raises(ValueError, match=rf"letters\.npz: {message}"):
        letters(write(tmp_path, arrays))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"letters\.npz"):
        letters(tmp_path)
    with pytest.raises(FileNotFoundError, match="pass --data DIR or set JOINTEBM_DATA"):
        letters(None)


# Segmentation.


@pytest.mark.slow
def test_masks_are_the_pixels_that_are_at_least_half_ellipse_under_fixed_noise() -> None:
    data, sprites = segmentation(None, noise_sd=0.01), dsprites(None)
    for part, of, num in ((data.train, sprites.train, 1000), (data.held_out, sprites.held_out, 400)):
        levels = np.rint(4 * part["image"]).astype(int)
        assert len(part["mask"]) == num and (part["mask"] == (levels >= 2)).all()
        known = {image.tobytes() for image in of["image"]}
        assert all(image.tobytes() in known for image in levels.astype(np.uint8))
    one, two = data.rows(50, generator=torch.Generator().manual_seed(0)), data.train["image"]
    assert one.numbers is not None
    assert torch.equal(one.position["image"], torch.tensor(two)[one.numbers])
    # 1,433,600 numbers; five standard errors are a false alarm in one seed of a million.
    noisy = segmentation(None)
    noise = np.concatenate(
        [
            getattr(noisy, part)["image"] - np.rint(4 * getattr(data, part)["image"]) / 4
            for part in ("train", "held_out")
        ]
    )
    assert abs(noise.mean()) < 5 / noise.size**0.5 and abs(noise.std() - 1) < 5 / (2 * noise.size) ** 0.5


# Sets and spins.


def test_sets_are_two_clusters_that_are_labels_equally_often() -> None:
    rows = Sets().draw(4000, generator=torch.Generator().manual_seed(0))
    members = rows["members"].bool()
    assert bool((members.sum(dim=1) == 3).all())
    first, second = (rows["points"][mask].unflatten(0, (4000, 3)) for mask in (members, ~members))
    apart = (first.mean(dim=1) - second.mean(dim=1)).norm(dim=1)
    assert abs(float(apart.square().mean()) - (9 + 2 * 2 * 0.25 / 3)) < 0.2  # 3 apart, and the means of three points
    assert abs(float(first.var(dim=1).mean()) - 0.25) < 0.01
    # Each place is a member Binomial(4000, 1/2); five standard errors.
    assert bool(((members.float().mean(dim=0) - 0.5).abs() < 5 * 0.5 / 4000**0.5).all())
    assert torch.equal(Sets().test()["points"], Sets().test()["points"]) and len(Sets().test()["points"]) == 500


def test_grids_of_spins_are_exact_draws_from_their_energy() -> None:
    grids = IsingGrids(coupling=0.25, field=0.2)
    energy = IsingEnergy(grids.space, coupling=0.25, field=0.2)
    states = grids.space.configurations(dtype=torch.float64)
    torch.testing.assert_close(grids.log_density(states), energy.double()(states).detach(), rtol=0, atol=1e-5)
    weights = grids.log_density(states).softmax(dim=0)
    drawn = grids.batch(20_000, generator=torch.Generator().manual_seed(0))

    def statistics(position: dict[str, Tensor]) -> Tensor:
        """Spins, products of neighbours, and whether all spins are up, (grids, 33)."""
        spins = 2 * position["spins"].double() - 1
        pairs = spins * spins.roll(1, dims=1)
        return torch.cat([spins.flatten(1), pairs.flatten(1), spins.amin(dim=(1, 2))[:, None]], dim=1)

    expected = weights @ statistics(states)
    error = ((weights @ statistics(states).square() - expected.square()) / 20_000).sqrt()
    assert bool(((statistics(drawn).mean(dim=0) - expected).abs() < 5 * error).all())

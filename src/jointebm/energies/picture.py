"""Picture energy: a normalised joint density of an image and the labels that say what it shows and where.

Legend: N rows, H x W pixels, K the side of a template, V and U classes of the two positions, C classes of all other labels.
"""

import math

import torch
from torch import Tensor, nn

from jointebm.randomness.draws import Generator, normal
from jointebm.spaces.space import Position, Space

__all__ = ["PictureEnergy"]

CELLS_PER_PIXEL = 2.0  # of a template, before training
CELL_SD = 0.35  # pixels that a cell is spread over, before training
MARGIN = 0.25  # share of the image on either side of the outermost centres, before training


class PictureEnergy(nn.Module):
    """F(x, y) = sum over pixels of log N(x; mu(y), s^2) + sum over labels of log p(y_t),   mu(y) = R[v] T[rest] S[u]^T.

    All labels but two choose a template T of K x K numbers. The other two say where it is: a matrix for each class v spreads
    the rows of the template over the image, one for each class u its columns. Templates start at 0, matrices as translations
    by equal steps; all are learned.

    F is normalised whatever its parameters are, so log Z is 0. Missing pixels, NaN, are integrated out exactly, which is to
    leave them out of the sum. Given y all pixels are independent: noise that is shared by pixels is not modelled.

    Args:
        space: one continuous block (H, W), and single categorical blocks.
        side: K.
        rows: name of the block v, from top to bottom.
        columns: name of the block u, from left to right.
        noise_sd: s, > 0.

    Raises:
        ValueError: the space has other blocks, or lacks a position.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> space = Space(image=Continuous((8, 8)), shape=Categorical(3), down=Categorical(4), right=Categorical(4))
        >>> energy = PictureEnergy(space, side=4, rows="down", columns="right", noise_sd=0.5)
        >>> energy.table(torch.zeros(2, 8, 8)).shape
        torch.Size([2, 3, 4, 4])
    """

    log_normalizer = 0.0

    def __init__(self, space: Space, *, side: int, rows: str, columns: str, noise_sd: float) -> None:
        super().__init__()
        shapes = [space[name].variable_shape for name in space.continuous]
        single = all(space[name].variable_shape == () and space[name].position_shape for name in space.discrete)
        if len(shapes) != 1 or len(shapes[0]) != 2 or not single or not {rows, columns} <= set(space.discrete):
            raise ValueError(
                f"PictureEnergy: needs one image and single categorical blocks, {rows!r} and {columns!r} among them, got "
                f"{space}; write for example Space(image=Continuous((32, 32)), shape=Categorical(3), "
                f"{rows}=Categorical(32), {columns}=Categorical(32))"
            )
        self.noise_sd, self.rows, self.columns, self.side = noise_sd, rows, columns, side
        self._log_scale = math.log(noise_sd * math.sqrt(2 * math.pi))
        self.num_classes = {name: space.num_classes(name)[0] for name in space.discrete}
        self.others = tuple(name for name in space.discrete if name not in (rows, columns))
        self.encoded_blocks = space.continuous
        (self.x,) = space.continuous
        height, width = shapes[0]
        self.spread_rows = nn.Parameter(_translations(self.num_classes[rows], height, side))  # R, (V, H, K)
        self.spread_columns = nn.Parameter(_translations(self.num_classes[columns], width, side))  # S, (U, W, K)
        kinds = math.prod(self.num_classes[name] for name in self.others)
        self.templates = nn.Parameter(torch.zeros(kinds, side, side))  # T, (C, K, K)
        self.logits = nn.ParameterDict({name: torch.zeros(count) for name, count in self.num_classes.items()})

    def picture(self, position: Position) -> Tensor:
        """mu(y), shape (N, H, W)."""
        kind = position[self.rows].new_ones(len(position[self.rows]), 1)
        for name in self.others:
            kind = (kind[:, :, None] * position[name][:, None, :]).flatten(1)  # one-hot over all combinations
        template = (kind @ self.templates.flatten(1)).unflatten(1, self.templates.shape[1:])
        rows = (position[self.rows] @ self.spread_rows.flatten(1)).unflatten(1, self.spread_rows.shape[1:])
        columns = (position[self.columns] @ self.spread_columns.flatten(1)).unflatten(1, self.spread_columns.shape[1:])
        return rows @ template @ columns.transpose(1, 2)

    def encode(self, position: Position) -> Tensor:
        """The image (N, H, W); it is compared with pictures as it is."""
        return position[self.x]

    def head(self, features: Tensor, position: Position) -> Tensor:
        """F from the image and y, shape (N,), nats."""
        seen = ~features.isnan()
        residual = (torch.where(seen, features, 0.0) - self.picture(position)) / self.noise_sd
        pixels = -0.5 * residual.square() - self._log_scale
        return (pixels * seen).sum(dim=(1, 2)) + self.log_prior(position)

    def forward(self, position: Position) -> Tensor:
        """F at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)

    def log_prior(self, position: Position) -> Tensor:
        """log p(y), shape (N,), nats."""
        return torch.stack([position[name] @ row.log_softmax(dim=0) for name, row in self.logits.items()]).sum(dim=0)

    @torch.no_grad()
    def table(self, images: Tensor) -> Tensor:
        """F at all labels, shape (N, classes of each discrete block of the space), nats; one product of matrices per row.

        Args:
            images: (N, H, W); NaN is missing.
        """
        seen = ~images.isnan()
        x = torch.where(seen, images, 0.0)
        masks, mask_of_row = seen.unique(dim=0, return_inverse=True)
        sizes = torch.stack([self._sizes(mask) for mask in masks])  # (masks, V, U, C)
        of_columns = self.spread_columns.permute(1, 0, 2).flatten(1)  # (W, U K)
        of_rows = self.spread_rows.permute(0, 2, 1).flatten(0, 1)  # (V K, H)
        found = []
        for image, mask in zip(x, mask_of_row, strict=True):
            spread = (of_rows @ (image @ of_columns)).unflatten(0, (-1, self.side)).unflatten(2, (-1, self.side))
            inner = spread.transpose(1, 2).flatten(2) @ self.templates.flatten(1).T  # (V, U, C)
            found.append(inner - 0.5 * sizes[mask])
        constant = -0.5 * x.square().sum(dim=(1, 2)) / self.noise_sd**2 - seen.to(x).sum(dim=(1, 2)) * self._log_scale
        f = torch.stack(found) / self.noise_sd**2 + constant[:, None, None, None]
        names = (self.rows, self.columns, *self.others)
        f = f.reshape(-1, *[self.num_classes[name] for name in names])
        f = f.permute(0, *[1 + names.index(name) for name in self.num_classes])
        for axis, name in enumerate(self.num_classes, start=1):
            log_p = self.logits[name].log_softmax(dim=0)
            f = f + log_p.reshape([-1 if k == axis else 1 for k in range(f.ndim)])
        return f

    def _sizes(self, seen: Tensor) -> Tensor:
        """|mu(y)|^2 over the seen pixels (H, W), at all labels, (V, U, C).

        It is the sum over different rows of the mask of the sum of (G_v T)_kl (T H_u)_kl, with G_v = R_v^T R_v over the
        rows of the image that have this mask, and H_u = S_u^T S_u over the columns that it shows.
        """
        templates = self.templates
        total = templates.new_zeros(len(templates), len(self.spread_rows), len(self.spread_columns))  # (C, V, U)
        patterns, pattern_of_row = seen.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = self.spread_rows[:, pattern_of_row == number]
            columns = self.spread_columns[:, pattern]
            g, h = rows.transpose(1, 2) @ rows, columns.transpose(1, 2) @ columns  # (V, K, K), (U, K, K)
            left = (g.flatten(0, 1) @ templates.permute(1, 0, 2).flatten(1)).unflatten(0, (-1, self.side))
            left = left.unflatten(2, (-1, self.side)).permute(2, 0, 1, 3).flatten(2)  # (C, V, K K)
            right = (templates.flatten(0, 1) @ h.permute(1, 0, 2).flatten(1)).unflatten(0, (-1, self.side))
            right = right.unflatten(2, (-1, self.side)).permute(0, 2, 1, 3).flatten(2)  # (C, U, K K)
            total = total + left @ right.transpose(1, 2)
        return total.permute(1, 2, 0)

    @torch.no_grad()
    def draw(self, position: Position, *, generator: Generator) -> Tensor:
        """Exact draws of images given labels, (N, H, W)."""
        mean = self.picture(position)
        return mean + self.noise_sd * normal(mean, generator)


def _translations(classes: int, size: int, side: int) -> Tensor:
    """Matrices (classes, size, side) that spread a template around centres at equal steps."""
    pixels, cells = torch.arange(float(size))[:, None], torch.arange(float(side)) - (side - 1) / 2
    centres = (MARGIN + (1 - 2 * MARGIN) * torch.arange(float(classes)) / max(classes - 1, 1)) * (size - 1)
    distance = pixels - centres[:, None, None] - cells / CELLS_PER_PIXEL
    return (-0.5 * (distance / CELL_SD).square()).exp() / CELLS_PER_PIXEL

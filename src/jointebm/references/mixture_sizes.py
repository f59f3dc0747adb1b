"""Numbers of components that a mixture is tried with, where its caller names none."""

__all__ = ["MIXTURE_SIZES"]

MIXTURE_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

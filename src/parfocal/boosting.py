"""Gradient and curvature of margins, as a booster asks for them."""

from parfocal.boosters.gradients import CURVATURES, gradient_and_curvature

__all__ = ["CURVATURES", "gradient_and_curvature"]

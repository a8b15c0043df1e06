"""Calibrators that were pickled before `parfocal.core` existed look for their fit here."""

from parfocal.core.calibration import Fit

__all__ = ["Fit"]

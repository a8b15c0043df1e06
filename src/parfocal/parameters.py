"""Losses that were pickled before `parfocal.core` existed look for their parameters here."""

from parfocal.core.parameters import FLSD53, Binary, Categorical, GammaSchedule, SparseCategorical

__all__ = ["FLSD53", "Binary", "Categorical", "GammaSchedule", "SparseCategorical"]

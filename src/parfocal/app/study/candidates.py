"""Candidates: a loss with gamma and class weights, on trees or a linear model with their settings.

Cross-entropy has gamma 0 and no class weights; balanced cross-entropy weights the classes so that all count the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parfocal.app.errors import BadInput, counted
from parfocal.app.model.linear import LINEAR

# LightGBM bins by a sample of 200,000 rows.  On flights (252,568 rows) the sample alone moved the average precision of
# the final test between 0.099 and 0.131 over five seeds, more than any loss did.
BIN_SAMPLE = 2_000_000

DEFAULT_GAMMAS = (1.0, 2.0)
DEFAULT_ALPHAS = (0.25, 0.5)


@dataclass(frozen=True)
class Settings:
    """Settings of the trees; None leaves the engine's own.  A linear model has only an inverse penalty C."""

    learning_rate: float = 0.1
    leaves: int = 31
    l2: float | None = None
    feature_share: float = 1.0
    bins: int | None = None
    inverse_penalty: float | None = None

    def of_engine(self, engine: str) -> dict[str, Any]:
        """Those that a `Task` does not have, by the engine's own names."""
        if engine == LINEAR:
            return {} if self.inverse_penalty is None else {"C": self.inverse_penalty}
        l2, share, bins = {
            "lightgbm": ("lambda_l2", "feature_fraction", "max_bin"),
            "xgboost": ("lambda", "colsample_bytree", "max_bin"),
            "catboost": ("l2_leaf_reg", "rsm", "border_count"),
        }[engine]
        given = {share: self.feature_share}
        if self.l2 is not None:
            given[l2] = self.l2
        if self.bins is not None:
            given[bins] = self.bins
        if engine == "lightgbm":
            given["bin_construct_sample_cnt"] = BIN_SAMPLE
        if engine == "catboost":
            given["depth"] = round(np.log2(self.leaves)) + 1  # 31 leaves are its default, 6
        return given

    def __str__(self) -> str:
        if self.inverse_penalty is not None:
            return f"C {self.inverse_penalty:.2g}"
        l2 = "" if self.l2 is None else f", L2 {self.l2:.2g}"
        share = "" if self.feature_share == 1 else f", {self.feature_share:.0%} of columns"
        bins = "" if self.bins is None else f", {counted(self.bins, 'bin')}"
        return f"rate {self.learning_rate:.2g}, {counted(self.leaves, 'leaf', 'leaves')}{l2}{share}{bins}"


@dataclass(frozen=True)
class Candidate:
    """A loss to try.  Class weights are prior ** -balance (0: equal, 1: balanced), or alpha is the positive class's.

    `linear` is the linear model that competes with the engine's trees.
    """

    gamma: float
    alpha: float | None = None
    balance: float = 0.0
    settings: Settings = Settings()
    linear: bool = False

    @property
    def is_cross_entropy(self) -> bool:
        """Cross-entropy without class weights, of trees or linear."""
        return self.gamma == 0 and self.alpha is None and self.balance == 0

    @property
    def is_plain(self) -> bool:
        """Cross-entropy with the engine's own model, which all others have to beat."""
        return self.is_cross_entropy and not self.linear

    @property
    def simplicity(self) -> int:
        """0: cross-entropy, of trees or linear; 1: focal losses without class weights; 2: class weights.

        Where trees and linear models are a standard error apart, either may come first: on the 14 tables above
        FEW_LEAVES calibrated log loss was 0.961 with the trees first, 0.964 with the linear one, 0.964 by the mean.
        """
        if self.is_cross_entropy:
            return 0
        return 2 if self.balance or self.alpha not in (None, 0.5) else 1

    @property
    def name(self) -> str:
        if self.linear:
            return "logistic regression" if self.is_cross_entropy else f"{self.loss_name}, linear"
        return self.loss_name

    @property
    def loss_name(self) -> str:
        weighted = "" if self.alpha is None else f"alpha {self.alpha:.3g}"
        if self.balance:
            weighted = "balanced" if self.balance == 1 else f"balance {self.balance:.2g}"
        if self.gamma > 0:
            return f"focal (gamma {self.gamma:.3g}{', ' if weighted else ''}{weighted})"
        return f"{weighted} cross-entropy" if self.balance == 1 else "cross-entropy" + (weighted and f" ({weighted})")

    def class_weights(self, prior: Any) -> Any:
        """alpha of the loss: None, a number for two classes, or a list for more, on average 1."""
        if self.alpha is not None or not self.balance:
            return self.alpha
        if np.ndim(prior) == 0:
            weights = np.array([1 - prior, prior]) ** -self.balance
            return float(weights[1] / weights.sum())
        shares = np.asarray(prior)
        weights = shares**-self.balance
        return (weights / (shares @ weights)).tolist()


CROSS_ENTROPY = Candidate(0.0)
BALANCED = Candidate(0.0, balance=1.0)
LOGISTIC = Candidate(0.0, linear=True)


def candidates(gammas: Sequence[float], alphas: Sequence[float], classes: int, fast: bool = False) -> list[Candidate]:
    """The simpler ones first: the cross-entropies, logistic regression, then the grid.

    More than two classes are weighted equally or balanced.  `fast` has one focal loss without class weights, unless
    gammas or alphas are given.
    """
    if classes > 2 and alphas:
        raise BadInput(
            f"--alpha is the weight of the positive class, and --target has {counted(classes, 'class')}, which are "
            "tried with equal and with balanced weights; leave --alpha out, or choose one class with --positive"
        )
    gammas = gammas or (DEFAULT_GAMMAS[-1:] if fast else DEFAULT_GAMMAS)
    first = [CROSS_ENTROPY, LOGISTIC] if fast else [CROSS_ENTROPY, BALANCED, LOGISTIC]
    if classes > 2:
        grid = [Candidate(gamma, balance=balance) for gamma in gammas for balance in ((0.0,) if fast else (0.0, 1.0))]
    else:
        # At alpha 0.5 both classes have the same weight, as in plain cross-entropy.
        grid = [
            CROSS_ENTROPY if (gamma, alpha) == (0, 0.5) else Candidate(gamma, alpha)
            for gamma in gammas
            for alpha in alphas or (DEFAULT_ALPHAS[-1:] if fast else DEFAULT_ALPHAS)
        ]
    return list(dict.fromkeys([*first, *grid]))


# Eight leaves for few positives.  Log loss of unseen rows of 14 tables (20 to 559 positives: yeast, abalone9-18, wine
# quality, german and others of KEEL and UCI; three splits of each), calibrated, over that of 31 leaves without limit on
# steps and not calibrated; geometric means without the best and the worst table:
#                            no L2: 31    15     8     4 leaves     L2 3: 31    15     8     4 leaves
#     1 logit a step at most     0.979 0.970 0.963 0.997            0.980 0.980 0.982 0.989
#     no limit                   0.994 0.982 0.983 1.000            0.993 0.993 0.996 0.991
# Half the learning rate: 0.997 for 0.994 (31 leaves), 0.993 for 0.996 (8 leaves, L2 3); there 5 or 40 rows in a leaf at
# least, in place of 20: 0.989 and 0.991.
FEW, FEW_LEAVES = 500, 8  # rows of the rarest class

# Fewer bins for many columns: log loss 0.1241 instead of 0.1250 (15,000 x 800, synthetic) and no difference (hiva,
# 3,845 x 1,617), in two thirds of the time.  Half of the columns for each tree cost 0.002 on the one and gained 0.001
# on the other, so only tables that would take too long get fewer.
WIDE, WIDE_BINS, WIDEST = 150, 63, 400  # columns


def usual_settings(of_rarest_class: int, features: int) -> Settings:
    """The settings of all candidates, by the size of the table."""
    return Settings(
        leaves=31 if of_rarest_class >= FEW else FEW_LEAVES,
        feature_share=min(1.0, WIDEST / features),
        bins=WIDE_BINS if features > WIDE else None,
    )

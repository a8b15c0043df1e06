"""Gradient boosting with a focal loss as a scikit-learn classifier, on any of three engines."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from parfocal.boosters import ENGINES, Rows, Task, engine_parameters
from parfocal.core import validation
from parfocal.core.formula import Schedule
from parfocal.core.hosts import counted
from parfocal.sklearn import features
from parfocal.sklearn.classifier import FocalClassifierMixin, with_class_weights

# What features may be: NaN is a missing value.
FEATURES: dict[str, Any] = {
    "accept_sparse": "csr",
    "ensure_all_finite": "allow-nan",
    "dtype": (np.float64, np.float32),
}

# In logits of the posterior.  Least log loss within 150 rounds of LightGBM, gamma 2, one split, by the limit:
#                     1       2       4       8    none
#   synthetic     0.0865  0.0751  0.0690  0.0690  0.0690     (easy to separate: a shorter step is slow)
#   yeast4        0.1053  0.1059  0.1070  0.1070  0.1070
#   Caravan       0.2163  0.2155  0.2160  0.2160  0.2160
#   Shuttle       0.0000  0.0000  0.0000  0.0000  0.0472     (7 classes, ten rows in one: it diverges)
MAX_DELTA_STEP = 4.0


class FocalBoostingClassifier(FocalClassifierMixin, BaseEstimator):
    """Gradient boosting with a focal loss; `predict_proba` returns probabilities, not focal scores.

    Parameters
    ----------
    engine : "lightgbm", "xgboost" or "catboost"; the package of that name must be installed.  CatBoost calls Python for
        every row of every tree where there are more than two classes, and is slow then.
    gamma : >= 0, one number; for two classes also a pair (negatives, positives), for more one per class.
    alpha : None, no weights.  Two classes: the weight of the second class, in [0, 1]; the first has 1 - alpha.  More:
        one number per class, in the order of `classes_`.
    n_estimators : rounds, with early stopping at most.
    learning_rate : of the engine.
    max_leaf_nodes : of a tree; CatBoost has trees of its own depth, 6.
    max_delta_step : the longest step of a leaf, before the learning rate.  "auto" is 4 / (1 + gamma), four logits of
        the posterior: a leaf of a rare class asks for much more, and training may never recover (docs/boosting.md).  0
        or None: no limit.  CatBoost knows none.
    class_weight : None, "balanced" or a dict: how much a mistake on each class costs, in training and in `predict`.
        Probabilities do without it.
    label_smoothing : in [0, 1).
    curvature : what the booster divides by, see `parfocal.boosting.gradient_and_curvature`.
    early_stopping_rounds : stop where the log loss of held-out rows has not improved for so many rounds; None: never.
    validation_fraction : of the rows that are held out then.
    validation : which they are: "random", with each class's share, or "last", for rows in the order of time, where rows
        at random would be of the same days as the ones trained on, and training would stop too late.
    n_jobs : threads; None is 1, -1 all.
    random_state : of the held-out rows and of the engine.
    engine_params : None or a dict of the engine's own parameters, by any of their names there; they win over the ones
        above.  Names that the installed engine does not know are an error, and so are parameters that would have no
        effect on this loss, such as `is_unbalance` and `scale_pos_weight`: the error says what to use.
    categorical_features : which columns hold categories, as in scikit-learn's HistGradientBoostingClassifier.
        "from_dtype": those of a data frame whose type says so, Categorical in pandas, Categorical and Enum in polars,
        dictionaries in Arrow.  None: no column.  Or a list: of names, of places, or of True and False for every
        column; such columns may hold text, numbers or booleans.  `fit` gives each category a code, whatever codes the
        frame has; in `predict` unknown categories are missing values.

    Attributes
    ----------
    classes_, n_features_in_, feature_names_in_ : as in every classifier.
    n_iter_ : rounds that are used.
    booster_ : the engine's own trained model.  Its scores lack the start for LightGBM and CatBoost.
    objective_ : the `FocalObjective` of the engine, as in `parfocal.lightgbm`.
    loss_ : the parfocal loss of the margins, for `parfocal.Calibrator`.
    feature_importances_ : gains of the features, as shares.
    is_categorical_ : (features,) True where a column holds categories; None where none does.

    Raises
    ------
    ValueError for parameters out of range, for labels of one class, and for columns that are neither numbers nor
    categories, such as text and dates, by name; ModuleNotFoundError where the engine is not installed.

    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(500, weights=[0.95], random_state=0)
    >>> model = FocalBoostingClassifier(gamma=2.0).fit(X, y)
    >>> print(abs(model.predict_proba(X)[:, 1].mean() - y.mean()) < 0.01)
    True
    """

    categorical_features: Any = "from_dtype"  # here, because models that were pickled earlier have none

    def __init__(
        self,
        engine: str = "lightgbm",
        gamma: Any = 2.0,
        alpha: Any = None,
        *,
        n_estimators: int = 100,
        learning_rate: float = 0.1,
        max_leaf_nodes: int = 31,
        max_delta_step: Any = "auto",
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        curvature: str = "positive",
        early_stopping_rounds: int | None = None,
        validation_fraction: float = 0.1,
        validation: str = "random",
        n_jobs: int | None = None,
        random_state: Any = None,
        engine_params: dict[str, Any] | None = None,
        categorical_features: Any = "from_dtype",
    ) -> None:
        self.engine = engine
        self.gamma = gamma
        self.alpha = alpha
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.max_delta_step = max_delta_step
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.curvature = curvature
        self.early_stopping_rounds = early_stopping_rounds
        self.validation_fraction = validation_fraction
        self.validation = validation
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.engine_params = engine_params
        self.categorical_features = categorical_features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FocalBoostingClassifier:
        """Train on labels y (N,) and rows X (N, features): an array, a data frame or a sparse matrix.

        Missing values are NaN, or what the frame has for them.
        """
        engine = ENGINES[validation.one_of("engine", self.engine, tuple(ENGINES))]
        self._check_parameters()
        engine_params = engine_parameters(
            engine,
            {} if self.engine_params is None else self.engine_params,
            early_stopping=self.early_stopping_rounds is not None,
            estimator_params=self.get_params(deep=False),
        )
        rounds = at_least_1(f"{engine.rounds} in engine_params", engine_params.pop(engine.rounds, self.n_estimators))
        table = features.Table(X)
        places = features.categorical_places(table, self.categorical_features)
        categories = features.learn_categories(table, places)
        X, y = features.validated_for_fit(self, table, y, features.BOOSTING_CURES, FEATURES, categories)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least 2 classes; y holds one class only, {self.classes_[0]!r}")
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if weight is not None and np.count_nonzero(np.bincount(labels, weights=weight)) < 2:
            raise ValueError("a classifier needs at least 2 classes; sample_weight leaves fewer with a weight above 0")
        self.class_weight_, weight = with_class_weights(self.class_weight, self.classes_, labels, weight)
        random = check_random_state(self.random_state)
        rows, held_out = Rows(X, labels, weight, places, len(self.classes_)), None
        if self.early_stopping_rounds is not None:
            rows, held_out = self._split(rows, random)
        task = Task(
            objective={
                "gamma": self.gamma,
                "alpha": self.alpha,
                "label_smoothing": self.label_smoothing,
                "curvature": self.curvature,
            },
            rows=rows,
            held_out=held_out,
            rounds=rounds,
            early_stopping_rounds=self.early_stopping_rounds or 0,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            max_delta_step=self._max_delta_step(),
            threads=threads(self.n_jobs),
            seed=int(random.randint(2**31 - 1)),
            engine_params=engine_params,
        )
        trained = engine.train(task)
        self._engine, self._categories = engine.name, categories
        self.is_categorical_ = features.mask(places, X.shape[1])
        self.booster_, self.objective_, self.n_iter_ = trained.booster, trained.objective, trained.rounds
        return self

    def _check_parameters(self) -> None:
        """Those that neither the loss nor every engine checks."""
        validation.one_of("validation", self.validation, ("random", "last"))
        for name in ("n_estimators", "early_stopping_rounds"):
            value = getattr(self, name)
            if value is not None:
                at_least_1(name, value)

    def _max_delta_step(self) -> float:
        """In margins, which move slower than logits of the posterior by 1 + gamma where samples are easy."""
        if isinstance(self.max_delta_step, str):
            validation.one_of("max_delta_step", self.max_delta_step, ("auto",))
            gamma = validation.gamma(self.gamma)
            return MAX_DELTA_STEP / (
                1 + float(np.max(np.asarray(gamma.gammas if isinstance(gamma, Schedule) else gamma)))
            )
        step = validation.number_or_list("max_delta_step", self.max_delta_step or 0.0)
        if isinstance(step, tuple) or not 0 <= step < float("inf"):
            raise ValueError(f"max_delta_step must be 'auto', None or a number >= 0; got {self.max_delta_step!r}")
        return step

    def _split(self, rows: Rows, random: Any) -> tuple[Rows, Rows]:
        """Rows to train with and rows to stop by; at random each class on both sides, where it has two rows."""
        at_random = self.validation == "random"
        counts = np.bincount(rows.labels)
        parts = train_test_split(
            np.arange(len(rows.labels)),
            test_size=self.validation_fraction,
            shuffle=at_random,
            random_state=random if at_random else None,
            stratify=rows.labels if at_random and counts.min() > 1 else None,
        )
        train, held_out = (rows.part(part) for part in parts)
        lacking = np.flatnonzero((np.bincount(train.labels, minlength=len(counts)) == 0) & (counts > 0))
        if len(lacking) and not at_random:
            held = len(held_out.labels)
            raise ValueError(
                f"validation='last' holds out the last {counted(held, 'row')}, and only "
                f"{'it has' if held == 1 else 'they have'} the class {self.classes_[lacking].tolist()[0]!r}; use a "
                "smaller validation_fraction, or validation='random'"
            )
        return train, held_out

    def decision_function(self, X: Any) -> np.ndarray:
        """The margins: (N,) for two classes, high for the second, else (N, K)."""
        check_is_fitted(self)
        categories = getattr(self, "_categories", {})  # models that were pickled earlier have none
        X = features.validated(self, X, features.BOOSTING_CURES, FEATURES, categories)
        return ENGINES[self._engine].margins(self.booster_, self.objective_.start_, X)

    @property
    def loss_(self) -> Any:
        return self.objective_.loss(*np.shape(self.objective_.start_))

    def _loss_of(self, margins: np.ndarray) -> Any:
        return self.objective_.loss(*margins.shape[1:])

    @property
    def feature_importances_(self) -> np.ndarray:
        check_is_fitted(self)
        gains = ENGINES[self._engine].importances(self.booster_)
        return gains / (gains.sum() or 1.0)


def at_least_1(name: str, value: Any) -> int:
    if validation.whole_number(name, value) < 1:
        raise ValueError(f"{name} must be at least 1; got {value!r}")
    return int(value)


def threads(n_jobs: int | None) -> int:
    import joblib

    return int(joblib.effective_n_jobs(n_jobs)) if n_jobs is not None else 1

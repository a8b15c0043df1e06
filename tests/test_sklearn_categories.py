"""Columns of categories in FocalBoostingClassifier, and columns that no estimator can use."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from parfocal.boosters import ENGINES
from parfocal.sklearn import FocalBoostingClassifier, FocalLogisticRegression
from parfocal.sklearn.features import Table, encode

each_engine = pytest.mark.parametrize("engine", ENGINES)
either = pytest.mark.parametrize("estimator", [FocalBoostingClassifier, FocalLogisticRegression])

RANDOM = np.random.default_rng(3)
ROWS = 1500
COLOURS = np.asarray(["red", "amber", "green", "blue", "pink"])
PLACE = RANDOM.integers(0, 5, ROWS)
COLOUR = COLOURS[PLACE]
NUMBER = RANDOM.normal(size=ROWS)
# The order of the categories, by name or by code, says nothing of the chance.
CHANCE = np.asarray([0.6, 0.05, 0.5, 0.1, 0.02])[PLACE]
Y = RANDOM.random(ROWS) < CHANCE
FEW: dict[str, Any] = {"random_state": 0, "n_estimators": 15, "learning_rate": 0.3, "max_leaf_nodes": 8}

Frame = Callable[[Any], Any]
FRAMES: dict[str, Frame] = {
    "pandas Categorical": lambda colour: pd.DataFrame(
        {"size": NUMBER[: len(colour)], "colour": pd.Categorical(colour)}
    ),
    "pandas ordered": lambda colour: pd.DataFrame(
        {"size": NUMBER[: len(colour)], "colour": pd.Categorical(colour, categories=COLOURS, ordered=True)}
    ),
    "pandas Arrow dictionary": lambda colour: pd.DataFrame(
        {
            "size": NUMBER[: len(colour)],
            "colour": pd.Series(colour).astype(pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
        }
    ),
    "polars Categorical": lambda colour: pl.DataFrame(
        {"size": NUMBER[: len(colour)], "colour": pl.Series(colour, dtype=pl.String).cast(pl.Categorical)}
    ),
    "polars Enum": lambda colour: pl.DataFrame(
        {
            "size": NUMBER[: len(colour)],
            "colour": pl.Series(colour, dtype=pl.String).cast(pl.Enum([*COLOURS, "unseen"])),
        }
    ),
    "Arrow dictionary": lambda colour: pa.table(
        {"size": NUMBER[: len(colour)], "colour": pa.array(list(colour), pa.string()).dictionary_encode()}
    ),
}


def fitted(engine: str, X: Any, **settings: Any) -> FocalBoostingClassifier:
    return FocalBoostingClassifier(engine, **{**FEW, **settings}).fit(X, Y)


@each_engine
def test_every_kind_of_category_gives_the_same_model(engine: str) -> None:
    codes = np.searchsorted(np.sort(COLOURS), COLOUR).astype(float)  # the sorted names are the order of the codes
    by_hand = fitted(engine, np.column_stack([NUMBER, codes]), categorical_features=[1])
    expected = by_hand.predict_proba(np.column_stack([NUMBER, codes]))
    assert np.abs(expected[:, 1] - CHANCE).mean() < 0.05
    as_numbers = np.column_stack([NUMBER, codes])
    assert not np.array_equal(fitted(engine, as_numbers).predict_proba(as_numbers), expected)
    for name, frame in FRAMES.items():
        model = fitted(engine, frame(COLOUR))
        assert model.is_categorical_.tolist() == [False, True], name
        assert model.feature_names_in_.tolist() == ["size", "colour"], name
        np.testing.assert_array_equal(model.predict_proba(frame(COLOUR)), expected, err_msg=name)


@each_engine
def test_a_category_is_what_it_was_in_fit(engine: str) -> None:
    """Another frame has other codes, another order, fewer categories, new ones and none."""
    model = fitted(engine, FRAMES["pandas Categorical"](COLOUR))
    expected = model.predict_proba(FRAMES["pandas Categorical"](COLOUR))
    few = ["pink", "red", None, "unseen", "blue"]
    sizes = NUMBER[:5]
    sought = {
        text: model.predict_proba(pd.DataFrame({"size": sizes, "colour": pd.Categorical([text] * 5)})) for text in few
    }
    np.testing.assert_array_equal(sought["unseen"], sought[None])
    assert not np.array_equal(sought["pink"], sought["red"])
    for name in ("pandas Categorical", "polars Categorical", "polars Enum", "Arrow dictionary"):
        np.testing.assert_array_equal(model.predict_proba(FRAMES[name](COLOUR)), expected, err_msg=name)
        found = model.predict_proba(FRAMES[name](few))
        np.testing.assert_array_equal(found, [sought[text][row] for row, text in enumerate(few)], err_msg=name)
    reversed_codes = pd.DataFrame(
        {"size": NUMBER, "colour": pd.Categorical(COLOUR, categories=["unseen", *COLOURS[::-1]])}
    )
    np.testing.assert_array_equal(model.predict_proba(reversed_codes), expected)
    as_text = pd.DataFrame({"size": NUMBER, "colour": COLOUR})
    np.testing.assert_array_equal(model.predict_proba(as_text), expected)


def test_unknown_and_missing_categories_are_nan() -> None:
    for name, frame in FRAMES.items():
        table = Table(frame(["pink", None, "red", "unseen"] if "ordered" not in name else ["pink", None, "red", None]))
        codes = np.asarray(encode(table, {1: {"pink": 0, "red": 1}}))[:, 1].astype(float)
        np.testing.assert_array_equal(codes, [0, np.nan, 1, np.nan], err_msg=name)


@each_engine
def test_missing_categories_and_early_stopping(engine: str) -> None:
    holes = pd.Series(COLOUR).where(RANDOM.random(ROWS) < 0.7)
    rare = holes.mask(np.arange(ROWS) == ROWS - 1, "only in the rows to stop by")
    frame = pd.DataFrame({"size": NUMBER, "colour": pd.Categorical(rare)})
    settings = {"early_stopping_rounds": 5, "n_estimators": 60, "validation": "last"}
    model = fitted(engine, frame, **settings)
    assert 1 < model.n_iter_ < 60
    posterior = model.predict_proba(frame)
    assert np.isfinite(posterior).all()
    assert abs(posterior[:, 1].mean() - Y.mean()) < 0.03
    np.testing.assert_array_equal(fitted(engine, frame, **settings).predict_proba(frame), posterior)


@each_engine
def test_copies(engine: str, tmp_path: Any) -> None:
    frame = FRAMES["polars Categorical"](COLOUR)
    model = fitted(engine, frame)
    joblib.dump(model, tmp_path / "model")
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")):
        np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))
    assert clone(model).categorical_features == "from_dtype"


def test_a_pickle_of_the_time_before() -> None:
    X = np.column_stack([NUMBER, PLACE])
    model = fitted("lightgbm", X)
    for name in ("categorical_features", "_categories", "is_categorical_"):
        del model.__dict__[name]
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), fitted("lightgbm", X).predict_proba(X))
    assert again.get_params()["categorical_features"] == "from_dtype"
    assert "FocalBoostingClassifier" in repr(again)


@each_engine
@pytest.mark.parametrize("what", ["one category", "nothing", "whole numbers", "booleans", "intervals"])
def test_odd_categories(engine: str, what: str) -> None:
    values = {
        "one category": pd.Categorical(["red"] * ROWS),
        "nothing": pd.Categorical([None] * ROWS, categories=["red"]),
        "whole numbers": pd.Categorical(PLACE * -1000),
        "booleans": pd.Categorical(PLACE > 2),
        "intervals": pd.cut(NUMBER, 4),
    }[what]
    frame = pd.DataFrame({"size": NUMBER + PLACE, "odd": values})
    model = fitted(engine, frame)
    assert model.is_categorical_.tolist() == [False, True]
    assert np.isfinite(model.predict_proba(frame)).all()


def test_a_list_of_columns() -> None:
    """Names, places and a mask; text, numbers and booleans; frames, arrays and lists."""
    text = pd.DataFrame({"size": NUMBER, "colour": COLOUR, "great": NUMBER > 1})
    expected = fitted("lightgbm", text, categorical_features=["colour", "great"]).predict_proba(text)
    for chosen in ([1, 2], (2, 1), np.asarray([1, 2]), [False, True, True], pd.Index(["great", "colour"])):
        model = fitted("lightgbm", text, categorical_features=chosen)
        np.testing.assert_array_equal(model.predict_proba(text), expected, err_msg=repr(chosen))
    for X in (pl.from_pandas(text), text.to_numpy(dtype=object), text.to_numpy(dtype=object).tolist()):
        model = fitted("lightgbm", X, categorical_features=[1, 2])
        np.testing.assert_array_equal(model.predict_proba(X), expected)
    indexed = text.set_axis(RANDOM.permutation(ROWS), axis=0)
    model = fitted("lightgbm", indexed, categorical_features=[1, 2])
    np.testing.assert_array_equal(model.predict_proba(indexed), expected)
    given = text.copy()
    fitted("lightgbm", given, categorical_features=[1, 2]).predict_proba(given)
    pd.testing.assert_frame_equal(given, text)


def test_numbers_as_categories() -> None:
    """Any numbers, and those of predict need not have the type of those of fit."""
    odd = np.asarray([-7.5, 1e9, 0.0, 3.0, -1.0])[PLACE]
    X = np.column_stack([NUMBER, odd])
    model = fitted("lightgbm", X, categorical_features=[1])
    assert np.abs(model.predict_proba(X)[:, 1] - CHANCE).mean() < 0.05
    whole = pd.DataFrame({"size": NUMBER, "place": PLACE})
    named = fitted("lightgbm", whole, categorical_features=["place"])
    np.testing.assert_array_equal(
        named.predict_proba(whole), model_of_places().predict_proba(np.column_stack([NUMBER, PLACE]))
    )
    np.testing.assert_array_equal(named.predict_proba(whole.astype({"place": "Int64"})), named.predict_proba(whole))


def model_of_places() -> FocalBoostingClassifier:
    return fitted("lightgbm", np.column_stack([NUMBER, PLACE]), categorical_features=(False, True))


def test_none_leaves_numbers_alone() -> None:
    frame = pd.DataFrame({"size": NUMBER, "place": pd.Categorical(PLACE)})
    model = fitted("lightgbm", frame, categorical_features=None)
    assert model.is_categorical_ is None
    plain = fitted("lightgbm", np.column_stack([NUMBER, PLACE]))
    np.testing.assert_array_equal(model.predict_proba(frame), plain.predict_proba(np.column_stack([NUMBER, PLACE])))
    assert fitted("lightgbm", frame, categorical_features=[]).is_categorical_ is None
    with pytest.raises(ValueError, match=r"'colour' \(categories, such as '\w+' in row 0\).*'from_dtype'"):
        fitted("lightgbm", FRAMES["pandas Categorical"](COLOUR), categorical_features=None)


def test_numbers_of_every_kind_stay_numbers() -> None:
    frame = pd.DataFrame(
        {
            "size": NUMBER,
            "whole": pd.array(np.where(PLACE > 3, None, PLACE), dtype="Int64"),
            "great": pd.array(np.where(PLACE > 3, None, NUMBER > 1), dtype="boolean"),
            "plain": NUMBER > 1,
        }
    )
    numbers = frame.astype({"whole": "float64", "great": "float64", "plain": "float64"}).to_numpy()
    expected = fitted("lightgbm", numbers).predict_proba(numbers)
    for X in (frame, pl.from_pandas(frame)):
        model = fitted("lightgbm", X)
        assert model.is_categorical_ is None
        np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_in_a_pipeline_that_hands_on_frames(kind: str) -> None:
    frame = FRAMES[f"{kind} Categorical"](COLOUR)
    columns = make_column_transformer(
        (FunctionTransformer(feature_names_out="one-to-one"), ["colour", "size"]), verbose_feature_names_out=False
    ).set_output(transform=kind)
    model = make_pipeline(columns, FocalBoostingClassifier(**FEW)).fit(frame, Y)
    assert model[-1].feature_names_in_.tolist() == ["colour", "size"]
    assert model[-1].is_categorical_.tolist() == [True, False]
    assert np.abs(model.predict_proba(frame)[:, 1] - CHANCE).mean() < 0.05


def test_the_columns_of_fit_are_held_to() -> None:
    frame = FRAMES["pandas Categorical"](COLOUR)
    model = fitted("lightgbm", frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_proba(frame[["colour", "size"]])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_proba(frame[["size"]])
    codes = frame.assign(colour=PLACE)
    with pytest.raises(
        ValueError, match=r"'colour' of X holds \d \(int\), and in fit it held categories such as 'amber'"
    ):
        model.predict_proba(codes)


@pytest.mark.parametrize("kind", ["pandas Categorical", "polars Categorical"])
def test_columns_in_another_order_are_told_as_such(kind: str) -> None:
    """In scikit-learn's words; it said that a column which fit knew as categories must be numbers."""
    frame, rest = FRAMES[kind](COLOUR[:60]), {"random_state": 0, "n_estimators": 2}
    model = FocalBoostingClassifier(**rest).fit(frame, Y[:60])
    order = (
        r"^The feature names should match those that were passed during fit.\nFeature names must be in the same order"
    )
    with pytest.raises(ValueError, match=order):
        model.predict(frame[["colour", "size"]])
    texts = pd.DataFrame({"size": NUMBER[:60], "word": COLOUR[:60]})
    for estimator in (FocalBoostingClassifier(**rest), FocalLogisticRegression()):
        numbers = texts.assign(word=PLACE[:60])
        with pytest.raises(ValueError, match=order):
            estimator.fit(numbers, Y[:60]).predict(numbers[["word", "size"]])
        with pytest.raises(ValueError, match=r"^The feature names should match[^']*unseen at fit time:\n- name"):
            estimator.predict(texts.rename(columns={"word": "name"}))
        with pytest.raises(ValueError, match=r"X holds 'word' \(text, such as"):
            estimator.predict(texts)


@pytest.mark.parametrize("params", [{"tree_method": "exact"}, {"updater": "grow_colmaker"}])
def test_what_xgboost_cannot_do_with_categories(params: dict[str, Any]) -> None:
    frame, labels = FRAMES["pandas Categorical"](COLOUR[:60]), PLACE[:60] % 3
    model = FocalBoostingClassifier("xgboost", n_estimators=2, engine_params=params)
    ((name, value),) = params.items()
    with pytest.raises(ValueError, match=rf"^XGBoost cannot train with {name}='{value}' in engine_params.*Encoder$"):
        model.fit(frame, labels)
    model.fit(frame.assign(colour=PLACE[:60]), labels)
    cured = FocalBoostingClassifier("xgboost", n_estimators=2, engine_params={"tree_method": "approx"})
    assert cured.fit(frame, labels).is_categorical_.any()


MISTAKES: dict[str, tuple[Any, str]] = {
    "a name alone": ("colour", r"a list: .*got 'colour'"),
    "an unknown name": (["color"], r"holds 'color', and the columns of X are \['size', 'colour'\]"),
    "a place beyond": ([2], "the place 2; X has the places 0 to 1"),
    "a place from the end": ([-1], "the place -1; X has the places 0 to 1"),
    "a short mask": ([True], "one True or False for each of the 2 columns of X; got 1"),
    "a mixture": (["colour", 1], "a list: of names, of places"),
    "a number": (1, "a list: of names, of places"),
    "fractions": ([0.5], "a list: of names, of places"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_categorical_features(mistake: str) -> None:
    chosen, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        fitted("lightgbm", FRAMES["pandas Categorical"](COLOUR), categorical_features=chosen)


def test_names_need_names_and_sparse_rows_have_no_categories() -> None:
    with pytest.raises(ValueError, match=r"\['colour'\] are names, and X has none"):
        fitted("lightgbm", np.column_stack([NUMBER, PLACE]), categorical_features=["colour"])
    with pytest.raises(ValueError, match="needs dense features"):
        fitted("lightgbm", scipy.sparse.csr_array(np.column_stack([NUMBER, PLACE])), categorical_features=[1])
    with pytest.raises(ValueError, match=r"'colour' of X cannot hold categories.*unhashable"):
        fitted("lightgbm", pd.DataFrame({"size": NUMBER, "colour": [[1]] * ROWS}), categorical_features=["colour"])


# -- columns that are neither numbers nor categories


DAYS = np.datetime64("2024-02-01") + np.arange(ROWS)
DATE = datetime.date(2024, 2, 1)
TEXT = "text, such as '(red|amber|green|blue|pink)' in row 0"
UNUSABLE: dict[str, tuple[Any, str]] = {
    "pandas str": (pd.Series(COLOUR, dtype="str"), TEXT),
    "pandas object": (pd.Series(COLOUR, dtype=object), TEXT),
    "pandas string of Arrow": (pd.Series(COLOUR, dtype="string[pyarrow]"), TEXT),
    "polars String": (pl.Series(COLOUR), TEXT),
    "numbers, then text": (pd.Series([1.0, None] + ["two"] * (ROWS - 2), dtype=object), "text, such as 'two' in row 2"),
    "pandas times": (pd.Series(DAYS), "dates or times"),
    "pandas times with a zone": (pd.Series(DAYS).dt.tz_localize("UTC"), "dates or times"),
    "pandas durations": (pd.Series(DAYS - DAYS[0]), "dates or times"),
    "pandas periods": (pd.Series(pd.PeriodIndex(DAYS, freq="D")), "dates or times, such as Period"),
    "dates as objects": (pd.Series([DATE] * ROWS), "dates or times, such as datetime.date"),
    "polars dates": (pl.Series([DATE] * ROWS), "dates or times"),
    "polars times": (pl.Series(DAYS), "dates or times"),
    "polars times of day": (pl.Series([datetime.time(1)] * ROWS), "dates or times"),
    "polars lists": (pl.Series([[1.0]] * ROWS), r"objects of type List\(Float64\)"),
    "polars records": (pl.Series([{"a": 1}] * ROWS), "objects of type Struct"),
    "complex": (pd.Series(NUMBER + 1j), "objects, such as"),
}


@either
@pytest.mark.parametrize("what", UNUSABLE)
def test_unusable_columns_are_named(estimator: Any, what: str) -> None:
    values, message = UNUSABLE[what]
    library = pl if isinstance(values, pl.Series) else pd
    frame, numbers = (library.DataFrame({"size": NUMBER, "odd one": other}) for other in (values, NUMBER))
    cure = "|".join(["OneHotEncoder", "categorical_features=", "make numbers of"])
    with pytest.raises(ValueError, match=rf"X holds 'odd one' \({message}.*({cure}).*"):
        estimator().fit(frame, Y)
    model = estimator().fit(numbers, Y)
    with pytest.raises(ValueError, match=rf"X holds 'odd one' \({message}"):
        model.predict_proba(frame)
    # and where there is no other column
    with pytest.raises(ValueError, match=rf"X holds 'odd one' \({message}"):
        estimator().fit(frame[["odd one"]], Y)


@either
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.column_stack([NUMBER.astype(object), COLOUR]), r"column 1 \(text, such as '\w+' in row 0\)"),
        ([[number, text] for number, text in zip(NUMBER.tolist(), COLOUR.tolist(), strict=True)], r"column 1 \(text"),
        (np.column_stack([DAYS, DAYS]), r"column 0 \(dates or times\), column 1"),
        (np.column_stack([NUMBER, NUMBER]).astype("timedelta64[s]"), r"column 0 \(dates or times\)"),
        (pl.LazyFrame({"size": NUMBER}), r"LazyFrame.*X\.collect\(\)"),
    ],
    ids=["objects", "lists", "times", "durations", "lazy"],
)
def test_arrays_have_places(estimator: Any, X: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        estimator().fit(X, Y)


@either
def test_text_that_says_numbers_is_numbers(estimator: Any) -> None:
    numbers = pd.DataFrame({"size": NUMBER, "place": PLACE})
    text = numbers.astype({"place": str})
    expected = estimator().fit(numbers, Y).predict_proba(numbers)
    np.testing.assert_allclose(estimator().fit(text, Y).predict_proba(text), expected)


@either
def test_many_unusable_columns_are_one_error(estimator: Any) -> None:
    frame = pd.DataFrame({f"c{k}": COLOUR for k in range(9)})
    with pytest.raises(ValueError, match=r"'c0' .*'c4' .*and 4 more"):
        estimator().fit(frame, Y)

"""The tests can fail: break the formula in one place, and the checks against the oracle must turn red."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import nanobind
import pytest

from breaking import TESTS, broken_function, copy_of_parfocal, mutated, turns_red, turns_red_with

NATIVE = TESTS.parent / "native"

# Each is (check, file in parfocal/, original, broken); the original stands in that file once.
MUTANTS = {
    "a sign in the slope": (
        "exact::test_binary_hard_labels",
        "core/formula.py",
        "xp.clip(at.u, -FAR, 0.0)) - at.q)",
        "xp.clip(at.u, -FAR, 0.0)) + at.q)",
    ),
    "a sign in the curvature": (
        "exact::test_binary_hard_labels",
        "core/formula.py",
        "- g * g * p * u",
        "+ g * g * p * u",
    ),
    "the constant of the curvature": (
        "exact::test_binary_hard_labels",
        "core/formula.py",
        "(1 + g * (u + 2))",
        "(1 + g * (u + 1))",
    ),
    "the low part is lost": (
        "exact::test_binary_hard_labels",
        "core/formula.py",
        "high, low = times_gamma(xp, gamma, log, log_low)\n    return xp.exp(high) * (1 + low)",
        "high, low = times_gamma(xp, gamma, log, log_low)\n    return xp.exp(high)",
    ),
    "v and u are swapped": (
        "exact::test_binary_hard_labels",
        "core/formula.py",
        "return power(xp, gamma, *log_q(xp, at))",
        "return power(xp, gamma, at.u, 0 * at.u)",
    ),
    "the weights are swapped": (
        "exact::test_binary_hard_labels",
        "core/formula.py",
        "zip(shares(xp, y, 0.0), (w_1, w_0), strict=True)",
        "zip(shares(xp, y, 0.0), (w_0, w_1), strict=True)",
    ),
    "the softmax forgets the others' sign": (
        "exact::test_softmax_hard_labels",
        "core/softmax.py",
        "stored(xp, -a / or_one(xp, total))",
        "stored(xp, a / or_one(xp, total))",
    ),
    "1 - r by subtraction": (
        "exact::test_softmax_hard_labels",
        "core/softmax.py",
        "xp.where(largest, below + equals, top + (below - values))",
        "top + (below - values)",
    ),
    "the logit difference is rounded": (
        "exact::test_softmax_hard_labels",
        "core/softmax.py",
        "return Exponentials(xp.exp(high) * (1 + low))\n",
        "return Exponentials(xp.exp(high))\n",
    ),
    "a term of the linear rule": (
        "exact::test_binary_soft_labels",
        "core/formula.py",
        "gradient = d + g * k *",
        "gradient = d - g * k *",
    ),
    "the clip stops the gradient": (
        "exact::test_categorical_probabilities",
        "core/probability.py",
        "(first * rest - sum_of_others(xp, first * p))",
        "(first * rest)",
    ),
    "the gammas of the pair are swapped": (
        "exact::test_a_gamma_pair_is_negatives_then_positives",
        "core/parameters.py",
        "= self.gamma if isinstance",
        "= self.gamma[::-1] if isinstance",
    ),
    "the class axis is the last": (
        "identities::test_the_class_axis_may_lie_anywhere",
        "backends/numpy.py",
        "labels = np.moveaxis(labels, batch.axis, -1)",
        "pass",
    ),
    "the mean counts ignored samples": (
        "reduction::test_ignored_samples_leave_the_mean",
        "core/batch.py",
        "if self.valid is None and not with_weights:",
        "if not with_weights:",
    ),
    "alpha is left out of the posterior": (
        "posterior::test_softmax",
        "core/posterior.py",
        "m, gamma, m_low) - by_class(xp, [math.log(w) for w in weights], m)",
        "m, gamma, m_low)",
    ),
    "smoothing is left in the posterior": (
        "posterior::test_softmax",
        "core/posterior.py",
        "- smoothing / classes) / (1 - smoothing)",
        "- 0) / (1 - smoothing)",
    ),
}


# The backends that run the formula in other libraries, and the adapters.
BACKEND_MUTANTS = {
    "the logarithm of a total is rounded": (
        "wide_softmax::test_loss_and_gradient[jax-1000-10.0-indices]",
        "core/softmax.py",
        "log_total, log_low = log_pair(xp, divisor, scale=bits)",
        "log_total, log_low = xp.log(divisor), 0 * divisor",
    ),
    "what a sum has lost is dropped": (
        "wide_softmax::test_loss_and_gradient[jax-1000-10.0-indices]",
        "core/pairs.py",
        "return two_sum(xp, xp.sum(xp.round(values), axis=-1, keepdims=True), rest)",
        "return xp.sum(xp.round(values), axis=-1, keepdims=True), 0 * rest",
    ),
    "small exponentials are flushed": (
        "wide_softmax::test_loss_and_gradient[jax-100-10.0-indices]",
        "core/softmax.py",
        'if not getattr(xp, "flushes", False):',
        "if True:",
    ),
    "a call that is overridden is ignored": (
        "subclasses::test_twice_the_loss_is_twice_the_loss",
        "losses.py",
        'return self._overrides_call or "call" in self.__dict__',
        "return False",
    ),
    "the slope in gamma forgets its own": (
        "trained_gamma::test_binary[0-linear-2.0-float64-torch]",
        "core/gamma_derivatives.py",
        "xp.where(m < 0, loss, -v * q_to_g)",
        "xp.where(m < 0, loss, v * q_to_g)",
    ),
    "a trained alpha is on the wrong label": (
        "trained_gamma::test_a_module_trains_its_gamma_and_alpha",
        "backends/trained.py",
        "w_1 = alpha_of(backend, batch, scores)\n        w_0 = 1 - w_1",
        "w_0 = alpha_of(backend, batch, scores)\n        w_1 = 1 - w_0",
    ),
    "the gradient is not weighted": (
        "backends_agree::test_terms[jax-float32-sum, elements]",
        "backends/base.py",
        "slopes = [slope * slope_weight for slope in slopes]",
        "pass",
    ),
    "the mean divides by another axis": (
        "backends_agree::test_terms[jax-float32-binary, axis 0]",
        "backends/arrays.py",
        "self.length(values, axis)), values)",
        "self.length(values, -1)), values)",
    ),
    "the class axis stays where it is": (
        "backends_agree::test_terms[tensorflow-float32-dense, axis 1]",
        "backends/base.py",
        "scores = scores if batch.axis == last else xp.moveaxis(scores, batch.axis, -1)",
        "pass",
    ),
    "an ignored row has a label": (
        "backends_agree::test_terms[torch traced-float32-sparse, ignored]",
        "backends/base.py",
        "target = target & valid\n        return target, found & valid, found | ~valid",
        "pass\n        return target, found, found",
    ),
    "smoothed labels are hard": (
        "identities::test_smoothing_is_done_to_the_labels",
        "core/laws.py",
        "hard and not parameters.label_smoothing",
        "hard",
    ),
    "torch: what comes from above is lost, eager": (
        "torch_adapter::test_first_and_second_derivatives[softmax, soft]",
        "backends/torch.py",
        "None if cotangent is None else in_memory(cotangent)",
        "None",
    ),
    "torch: what comes from above is lost, traced": (
        "backends_agree::test_terms[torch traced-float32-mean_with_sample_weight, elements]",
        "backends/torch_terms.py",
        "gradient = upstream * function.apply(",
        "gradient = function.apply(",
    ),
    "torch: a sum's factor is lost": (
        "frameworks::test_many_gradients_at_once[binary]",
        "backends/torch.py",
        "gradient.mul_(factor)",
        "pass",
    ),
    "torch: the second derivative is its diagonal": (
        "derivatives::test_second_derivatives[torch_forward_over_reverse-float64-sparse, 2.0]",
        "backends/torch_terms.py",
        "change = law.product(xp, scores, zero_or(vector, scores), *constants)",
        "change = law.terms(xp, scores, 2, *constants)[2] * zero_or(vector, scores)",
    ),
    "JAX: the second derivative is its diagonal": (
        "derivatives::test_second_derivatives_along_a_vector[jax_forward_over_reverse-sparse, 2.0-float64]",
        "backends/jax.py",
        "law.product(NAMESPACE, scores, tangents[0], *constants)",
        "law.terms(NAMESPACE, scores, 2, *constants)[2] * tangents[0]",
    ),
    "JAX: the tangent is lost": (
        "jax_adapter::test_dtypes_and_extremes",
        "backends/jax.py",
        "law.along(NAMESPACE, slope, tangents[0])",
        "law.along(NAMESPACE, slope, slope)",
    ),
    "TensorFlow: what comes from above is lost": (
        "frameworks::test_tf_functions_of_open_shapes[sparse-graph]",
        "backends/tensorflow.py",
        "return upstream * self.differentiable_term(",
        "return self.differentiable_term(",
    ),
    "the torch adapter counts ignored elements": (
        "torch_adapter::test_ignored_elements_of_the_sigmoid_loss",
        "backends/base.py",
        "counting = valid if batch.valid is None else valid & batch.valid",
        "counting = batch.valid",
    ),
    "the torch adapter's mean forgets the class weights": (
        "torch_adapter::test_gamma_0_is_cross_entropy",
        "torch/rules.py",
        "divisor = backend.or_one(self.counted(batch))",
        "divisor = batch.divisor(self.reduction)",
    ),
    "the start is not added": (
        "boosters::test_gamma_0_is_the_built_in_objective[lightgbm-binary-]",
        "boosters/lightgbm.py",
        "self.terms(scores + self.known_start(),",
        "self.terms(scores,",
    ),
    "XGBoost's softmax has no factor": (
        "boosters::test_gamma_0_is_the_built_in_objective[xgboost-softmax-]",
        "boosters/xgboost.py",
        "return 2.0",
        "return 1.0",
    ),
    "the unit of cross-entropy is forgotten": (
        "boosters::test_at_the_start_the_pulls_balance_and_the_curvature_is_cross_entropys",
        "boosters/objective.py",
        "dtype, 1 / self.scale_)",
        "dtype)",
    ),
    "the start is solved again and again": (
        "boosters::test_the_start_is_solved_once",
        "boosters/objective.py",
        "if np.array_equal(prior, self.prior_):",
        "if False:",
    ),
    "classes decide by their scores": (
        "sklearn_boosting::test_both_classifiers_decide_by_probability_times_class_weight",
        "sklearn/classifier.py",
        "self._loss_of(margins).posterior_logit(margins))  # with",
        "margins)  # with",
    ),
    "class weights stay in the probabilities": (
        "sklearn_boosting::test_class_weights_move_predictions_and_no_probability[lightgbm]",
        "sklearn/classifier.py",
        "class_weight=self.class_weight_.tolist()",
        "class_weight=None",
    ),
    "the JAX adapter's mask is lost": (
        "jax_adapter::test_a_mask_leaves_out_rows_or_classes",
        "jax/functional.py",
        "logits, None, where, JAX)._replace(**traced)\n    for",
        "logits, None, None, JAX)._replace(**traced)\n    for",
    ),
}


# The same in C++: (check, file in native/, original, broken).
NATIVE_MUTANTS = {
    "small exponentials are flushed": (
        "wide_softmax::test_no_gradient_is_0_above_the_smallest_normal_number",
        "elementary.hpp",
        "F::lowest_exponent - scale * log2",
        "F::lowest_exponent",
    ),
    "a sign in the slope": ("exact::test_binary_hard_labels", "focal.hpp", "near(at.u) - at.q)", "near(at.u) + at.q)"),
    "a sign in the curvature": (
        "exact::test_binary_hard_labels",
        "focal.hpp",
        "- g * g * at.p * u;",
        "+ g * g * at.p * u;",
    ),
    "gamma 3 is 2": ("exact::test_binary_hard_labels", "focal.hpp", "at.q * at.q * at.q;", "at.q * at.q;"),
    "the low part is lost": (
        "exact::test_binary_hard_labels",
        "focal.hpp",
        "return exponential(exponent.high, exponent.low);",
        "return exponential(exponent.high);",
    ),
    "the weights are swapped": (
        "exact::test_binary_hard_labels",
        "focal.hpp",
        "select(positive, with.slope_1, with.slope_0)",
        "select(positive, with.slope_0, with.slope_1)",
    ),
    "a term of the linear rule": (
        "exact::test_binary_soft_labels",
        "focal.hpp",
        "by * (d + g * k * cross_entropy)",
        "by * (d - g * k * cross_entropy)",
    ),
    "a coefficient of the exponential": (
        "exact::test_binary_hard_labels",
        "elementary.hpp",
        "4.166655462e-2f",
        "4.16e-2f",
    ),
    "the softmax forgets the others' sign": (
        "exact::test_softmax_hard_labels",
        "rows.hpp",
        "b.share[r] = -(by",
        "b.share[r] = (by",
    ),
    "1 - r by subtraction": (
        "exact::test_softmax_hard_labels",
        "rows.hpp",
        "select(is_first, below, 1.0 + (below - e))",
        "(1.0 + (below - e))",
    ),
    "the logit difference is rounded": (
        "exact::test_softmax_hard_labels",
        "focal.hpp",
        "select(!equal && finite(sum.low), sum.low, T(0))",
        "T(0)",
    ),
    "rows are columns": (
        "kernels::test_softmax",
        "rows.hpp",
        "load(rows.data, rows.type, start + ptrdiff_t(k) * rows.of_class",
        "load(rows.data, rows.type, start + ptrdiff_t(k) * rows.inner",
    ),
    "the last numbers are not summed": (
        "kernels::test_binary",
        "loops.hpp",
        "for (; i < n; ++i) lanes",
        "for (; i < n - 1; ++i) lanes",
    ),
    "the position counts from the block": (
        "kernels::test_the_kernel_reports_the_position",
        "loops.hpp",
        "std::int64_t(start + i)",
        "std::int64_t(i)",
    ),
}


# In a process of its own, in a broken copy of the package: so that this way is tested too, which reaches code outside
# functions.
IN_A_COPY = ("the mean counts ignored samples",)

# The second tier's: checks that compile, or that run long before they are red.
LATER = {
    "the logit difference is rounded",
    "the class axis is the last",
    "smoothing is left in the posterior",
    "the mean divides by another axis",
    "the class axis stays where it is",
    "smoothed labels are hard",
    "torch: the second derivative is its diagonal",
    "JAX: the second derivative is its diagonal",
    "JAX: the tangent is lost",
    "TensorFlow: what comes from above is lost",
    "the torch adapter's mean forgets the class weights",
    "the unit of cross-entropy is forgotten",
    "class weights stay in the probabilities",
    "the JAX adapter's mask is lost",
}
ALL = {**MUTANTS, **BACKEND_MUTANTS}


def tiered(names: Iterable[str], table: dict[str, Any], later: Collection[str]) -> list[Any]:
    return [pytest.param(*table[name], id=name, marks=[pytest.mark.full] * (name in later)) for name in names]


def checks_of(table: dict[str, Any], without: Collection[str] = ()) -> list[str]:
    return sorted({mutant[0] for name, mutant in table.items() if name not in without})


def test_the_formula_as_it_is_keeps_a_few_of_them_green() -> None:
    assert not turns_red(checks_of(ALL, LATER), of_each=3)


@pytest.mark.full
def test_the_formula_as_it_is_keeps_them_green() -> None:
    assert not turns_red(checks_of(ALL))


@pytest.mark.parametrize(
    ("check", "file", "original", "broken"), tiered([n for n in ALL if n not in IN_A_COPY], ALL, LATER)
)
def test_a_broken_formula_turns_the_suite_red(
    check: str, file: str, original: str, broken: str, tmp_path: Path
) -> None:
    with broken_function(file, original, broken, tmp_path):
        assert turns_red([check])


@pytest.mark.full
@pytest.mark.parametrize(("check", "file", "original", "broken"), tiered(IN_A_COPY, ALL, ()))
def test_a_broken_copy_turns_the_suite_red(check: str, file: str, original: str, broken: str, tmp_path: Path) -> None:
    package = copy_of_parfocal(tmp_path)
    assert not turns_red_with(tmp_path, [check], "numpy")
    (package / file).write_text(mutated(package / file, original, broken))
    assert turns_red_with(tmp_path, [check], "numpy")


# -- in C++: the baseline kernel alone, not optimised, which compiles in seconds, and only where nothing is on file

FIRST_IN_NATIVE = ("a sign in the slope", "the softmax forgets the others' sign")
FLAGS = ["-std=c++17", "-O0", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-pthread"]
if platform.machine() in ("x86_64", "AMD64"):
    FLAGS.append("-march=x86-64")


class Builder:
    """Objects and modules by the hash of all that goes into them, in a folder that the next run finds again."""

    def __init__(self, store: Path) -> None:
        self.store = store
        said = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout
        self.tools = [said, nanobind.__version__, sysconfig.get_config_var("EXT_SUFFIX"), *FLAGS]

    def made(self, name: str, sources: Iterable[Path], make: Callable[[Path], None]) -> Path:
        """What `make` writes into a file, from these sources, unless it is there."""
        parts = [*self.tools, *(path.name + path.read_text() for path in sorted(sources))]
        found = self.store / f"{name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"
        if not found.exists():
            unfinished = found.with_name(f"{os.getpid()}-{found.name}")
            make(unfinished)
            unfinished.replace(found)  # whole or not at all
        os.utime(found)
        return found

    def module(self, native: Path) -> Path:
        """The native module whose kernels.cpp, and all that it includes, are in that folder."""
        source, ours = Path(nanobind.source_dir()), list(NATIVE.glob("*.[ch]pp"))
        include = [sysconfig.get_paths()["include"], nanobind.include_dir(), source.parent / "ext/robin_map/include"]
        includes = [f"-I{path}" for path in include]

        def binding(out: Path) -> None:
            gcc(*includes, "-c", NATIVE / "binding.cpp", "-o", out)

        def of_nanobind(out: Path) -> None:
            gcc(*includes, "-fno-strict-aliasing", "-c", source / "nb_combined.cpp", "-o", out)

        def whole(out: Path) -> None:
            gcc("-DPARFOCAL_ISA=baseline", "-c", native / "kernels.cpp", "-o", native / "kernels.o")
            objects = self.made("binding", ours, binding), self.made("nanobind", (), of_nanobind)
            gcc("-shared", native / "kernels.o", *objects, "-o", out)

        return self.made("module", [*ours, *native.glob("*.[ch]pp")], whole)


def gcc(*arguments: str | Path) -> None:
    subprocess.run(["g++", *FLAGS, *arguments], check=True)


@pytest.fixture(scope="session")
def builder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    store = tmp_path_factory.mktemp("native") if cache is None else cache.mkdir("parfocal-native")
    for path in store.iterdir():
        if time.time() - path.stat().st_mtime > 30 * 86400:  # of sources that are long gone
            path.unlink()
    return Builder(store)


def copy_of_native(folder: Path) -> Path:
    return Path(shutil.copytree(NATIVE, folder / "native"))


def package_with(module: Path, folder: Path) -> Path:
    package = copy_of_parfocal(folder)
    shutil.copy(module, package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}")
    return folder


def test_the_kernels_as_they_are_keep_a_few_of_them_green(builder: Builder, tmp_path: Path) -> None:
    checks = {NATIVE_MUTANTS[name][0] for name in FIRST_IN_NATIVE}
    package = package_with(builder.module(copy_of_native(tmp_path)), tmp_path)
    assert not turns_red_with(package, checks, "baseline", of_each=3)


@pytest.mark.full
def test_the_kernels_as_they_are_keep_them_green(builder: Builder, tmp_path: Path) -> None:
    package = package_with(builder.module(copy_of_native(tmp_path)), tmp_path)
    assert not turns_red_with(package, checks_of(NATIVE_MUTANTS), "baseline")


@pytest.mark.parametrize(
    ("check", "file", "original", "broken"),
    tiered(NATIVE_MUTANTS, NATIVE_MUTANTS, NATIVE_MUTANTS.keys() - set(FIRST_IN_NATIVE)),
)
def test_a_broken_kernel_turns_the_suite_red(
    check: str, file: str, original: str, broken: str, builder: Builder, tmp_path: Path
) -> None:
    native = copy_of_native(tmp_path)
    (native / file).write_text(mutated(native / file, original, broken))
    assert turns_red_with(package_with(builder.module(native), tmp_path), [check], "baseline")

"""The docstrings of parfocal as Markdown, for mkdocstrings, which reads the source and imports nothing of it.

What is written once in the source and taken over at run time is followed here: parameter lists, docstrings of a base.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

sys.path.append(str(Path(__file__).parent))

from docstring_text import markdown  # its folder is on the path only now

SEE = re.compile(r" *See `parfocal\.boosters(?:\.objective)?\.(\w+)`[.;]?")
DIRECTIVE = re.compile(r"^::: (\S+)$", re.M)
# Methods of public classes that are not for their users, but for a booster or for parfocal itself.
INTERNAL = {"parfocal.core.formula.Schedule.at"} | {
    f"parfocal.boosters.{kind}.{name}"
    for kind, names in {
        "objective.Objective": "learn_prior prior_of begin known_start mean_curvature factor "
        "terms terms_at softmax_terms",
        "lightgbm.FocalObjective": "factor",
        "objective.Metric": "value",
        "xgboost.FocalObjective": "factor",
        "catboost.FocalObjective": "calc_ders_range calc_ders_multi metric",
        "catboost.FocalMetric": "evaluate is_max_optimal get_final_error",
        "catboost_labels.MultiLabelFocalObjective": "metric",
        "catboost_labels.MultiLabelFocalMetric": "evaluate is_max_optimal get_final_error",
    }.items()
    for name in names.split()
}
REFERENCE = Path(__file__).parents[1] / "reference"


class Docstrings(griffe.Extension):
    """Docstrings become Markdown; derived signatures and inherited docstrings are filled in."""

    def on_package(self, *, pkg: griffe.Module, loader: Any, **_: Any) -> None:
        if pkg.name != "parfocal":
            return
        self.documented = {name for page in REFERENCE.glob("*.md") for name in DIRECTIVE.findall(page.read_text())}
        kinds = list(walk(pkg))
        for thing in kinds:
            take_over(thing, pkg)
        for thing in kinds:
            if thing.docstring:
                text = markdown(thing.docstring.value)
                thing.docstring = griffe.Docstring(self.linked(text, thing), parent=thing, parser=None)

    def linked(self, text: str, thing: griffe.Object) -> str:
        """Names in code as links to the reference, but for the thing's own name."""
        module = thing.module.path

        def link(match: re.Match[str]) -> str:
            name = match[1].removesuffix("()")
            owner = module
            while owner:
                for full in (f"{owner}.{name}", name):
                    if full in self.documented and full != thing.path and not thing.path.endswith(f".{name}"):
                        return f"[`{match[1]}`][{full}]"
                owner = owner.rpartition(".")[0]
            return match[0]

        parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
        return "".join(
            part if part.startswith("```") else re.sub(r"(?<![\[`])`([\w.]+(?:\(\))?)`(?!\])", link, part)
            for part in parts
        )


def walk(thing: Any) -> Iterator[Any]:
    """Everything that is defined in the package, aliases left out."""
    for member in list(thing.members.values()):
        if not member.is_alias:
            if member.path in INTERNAL:
                thing.members.pop(member.name)
                continue
            yield member
            if member.is_module or member.is_class:
                yield from walk(member)


def take_over(thing: Any, pkg: griffe.Module) -> None:
    """What the source derives at run time."""
    if thing.is_function and thing.docstring is None and thing.parent.is_class:  # the method of a base says it
        for base in thing.parent.mro() if resolvable(thing.parent) else []:
            method = base.members.get(thing.name)
            if method is not None and method.docstring:
                thing.docstring = griffe.Docstring(method.docstring.value, parent=thing)
                break
    if thing.is_class and "__doc__" in thing.members:  # `__doc__ = Base.__doc__`, or a text with that in it
        written = thing.members.pop("__doc__").value
        base = next(kind for kind in thing.mro() if kind.docstring)
        said = str(written).strip()
        own = "" if said.startswith(base.name) else source_text(thing).partition(".__doc__}")[2]
        thing.docstring = griffe.Docstring(base.docstring.value + "\n\n" + dedent_text(own), parent=thing)
    if thing.is_attribute and thing.docstring is None and "NamedTuple" in map(str, getattr(thing.parent, "bases", ())):
        said = thing.source.partition("  # ")[2]  # a field, which a comment explains
        thing.docstring = griffe.Docstring(said, parent=thing) if said else None
    if (
        thing.is_class and thing.docstring and (named := SEE.search(thing.docstring.value))
    ):  # the base has the parameters
        base = next((kind for kind in thing.mro() if kind.name == named[1]), None)
        if base is not None and base.docstring:
            own = SEE.sub("", thing.docstring.value).rstrip()
            head, mark, example = own.partition("\n>>> ")
            text = "\n\n".join([head.rstrip(), base.docstring.value, (mark + example).strip()])
            thing.docstring = griffe.Docstring(text, parent=thing)
    if thing.is_function:
        for decorator in thing.decorators:
            called = str(decorator.value)
            if called.startswith("takes_the_parameters_of("):
                target = resolve(called[called.index("(") + 1 : -1], thing, pkg)
                thing.parameters = target.parameters
    if thing.is_attribute and str(thing.value).startswith("for_keras("):  # a function of the core, as Keras's
        target = resolve(str(thing.value)[len("for_keras(") : -1], thing, pkg)
        module = thing.parent
        text = re.search(r'__doc__ = f"(.*)"', module.source)
        function = griffe.Function(thing.name, lineno=thing.lineno, endlineno=thing.endlineno, parent=module)
        function.parameters, function.returns = target.parameters, target.returns
        function.docstring = griffe.Docstring(text[1].replace("{function.__name__}", thing.name), parent=function)
        module.set_member(thing.name, function)


def resolvable(kind: Any) -> bool:
    try:
        kind.mro()
    except ValueError:
        return False
    return True


def resolve(name: str, thing: Any, pkg: griffe.Module) -> Any:
    """`core.Loss.__init__`, as it was imported in the thing's module."""
    first, _, rest = name.partition(".")
    found = pkg[thing.module.resolve(first).partition(".")[2]]
    return found[rest] if rest else found


def source_text(kind: Any) -> str:
    """The triple-quoted text of a class's `__doc__ = f...`."""
    return kind.source.partition('"""')[2].partition('"""')[0]


def dedent_text(text: str) -> str:
    return "\n".join(line[4:] if line.startswith("    ") else line for line in text.splitlines()).strip()

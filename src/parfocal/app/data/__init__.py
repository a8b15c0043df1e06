"""A table becomes labels, weights and a matrix of numbers.

tables.py      CSV and Parquet files;  frames.py  data frames of pandas and polars
    csv_files.py   how a CSV is written;  csv_survey.py  a pass over all of its bytes
    new_rows.py    a new table held to the columns of a model
columns.py     the kinds of columns and how each becomes numbers;  numerals.py  numbers as people write them
sample.py      a table as training sees it;  target.py  its classes;  rare.py  rare classes joined
roles.py       what the options say about columns;  leakage.py  columns that may know too much
splits.py      the folds and the final test
"""

"""Losses compared on a table; one of them is chosen.

study.py       all of it, as one value
candidates.py  what is tried: losses and settings;  search.py  a search that spends a time budget
training.py    candidates trained on the folds;  trials.py  calibrated, raced and chosen between
metrics.py     how good probabilities are;  verdict.py  whether one loss beats another by more than noise
columns_matter.py  which columns matter, and effects.py how a probability moves with one
curves.py      points of the final test's curves;  mistakes.py  its worst rows
"""

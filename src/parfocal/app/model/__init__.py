"""The model that a fit saves, and predictions with it.

model.py       what a model knows, and what it predicts;  decisions.py  which class a probability is taken for
rules.py       what --decide can be given;  outcomes.py  what a decision does, and will do to new rows
evidence.py    the rows that decisions are made on, as a file
saved.py       the folder: written and read;  checks.py  whether what was read makes sense
scoring.py     a table scored in chunks, and what was found;  reasons.py  what moved each row, in words
linear.py      linear models, as an engine beside the boosters;  feature_names.py  what a booster calls its features
boosters.py    whether a booster's file is safe to open, with trees.py, trees_lightgbm.py and trees_xgboost.py
"""

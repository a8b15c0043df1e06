"""Views of a study and of predictions.  Nothing is computed here that another view would not show as well.

text.py        for the terminal;  scores.py  what `predict` says there;  progress.py  a bar for those who watch
plots.py       a picture
decisions.py   what decisions do, as a table for the terminal
page/          report.html, one file for people to read
record.py      plain values for JSON
"""

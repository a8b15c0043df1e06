"""How fast parfocal is, beside what people use: `python -m bench`, from the root of the repository.

It needs the libraries that the tests need, `pip install -e ".[test]"`, and lists those that it does not find.

A. A *task* is one work at one size (works.py).  Its *contenders*, in one file of contenders/ for each library, compute
   the same function of the same data, or state which other function they compute.
B. Each library runs in a process of its own, so that thread pools never share a process (worker.py), once with one
   thread and once with all.  parfocal runs again in every process: a ratio compares two times of the same process.
C. A contender is timed only after its result was checked (references.py, answers.py).  If a result is wrong, its row
   says WRONG, and the program exits with 1.
D. The contenders of a task take turns (timing.py), so that a slow minute of the machine affects all of them.
E. Results are rows, printed and written as CSV (report.py); promises.py compares them with the promises.
"""

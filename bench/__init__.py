"""How fast parfocal is, beside what people use: `python -m bench`, from the root of the repository.

It wants what the tests want, `pip install -e ".[test]"`, and lists the other libraries that it does not find.

A. A *task* is one work at one size (works.py).  Its *contenders*, in one file of contenders/ for each library, answer
   the same question about the same data, or say which other question they answer.
B. Each library runs in a process of its own, so that no two thread pools share one (worker.py), once with one thread
   and once with all.  parfocal runs again in every process: a ratio compares two times of one process.
C. Nothing is timed before its answer is right (references.py, answers.py).  A wrong answer makes its row say WRONG,
   and the program exit with 1.
D. The contenders of a task take turns (timing.py), so that a slow minute of the machine is everyone's.
E. Results are rows, printed and written as CSV (report.py); promises.py compares them with what was promised.
"""

"""`python -m bench` times the processor, and `python -m bench --gpu` a GPU, which needs few of the libraries."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if any(argument.startswith("--gpu") for argument in sys.argv[1:]):
        from bench.gpu.command import run
    else:
        from bench.command import run
    run()

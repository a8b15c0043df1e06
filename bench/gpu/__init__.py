"""What the GPU kernels compute on a GPU, and how fast: `python -m bench --gpu`, from the root of the repository.

It needs torch, triton, NumPy and this checkout: nothing is compiled or installed, and NumPy's fallback is enough.

A. It goes in stages (command.py), each in a process of its own with a limit in seconds: an error, a hang or a faulty
   card ends one stage, and the next goes on.  A stage that is late stops between two measurements, and is killed soon
   after that.
B. Each line is printed as soon as it is known, and written to bench/gpu.csv.  Some have an expectation, and say whether
   it was met.
C. `python -m bench --gpu --rehearse` runs every stage on a processor, with interpreted kernels, tiny sizes, and clocks
   of the processor in place of the GPU's (rehearsal.py).  Its times mean nothing.
D. `python -m bench --gpu-bits` has Triton's interpreter compute bench/gpu_bits.json, with which stage 1 compares.

Stages: 0 the machine; 1 bits and 2 operations, 3 all logits (exact.py); 4 binary and 5 softmax (speed.py); 6 small
batches (host.py); 7 graphs, compilers, streams, sizes (modes.py); 8 counters (counters.py).
"""

"""The GPU's kernels, in Triton: native/'s formula a fourth time, with its names, in its order.

    elementary.py   exponential and logarithms                          native/elementary.hpp
    focal.py        the loss of one element and its slope               native/focal.hpp
    binary.py       one pass over the logits of binary losses           native/loops.hpp
    softmax.py      one pass over the rows of a softmax, or two         native/softmax.hpp, rows.hpp
    dense.py        a row with weight on several classes                native/dense.hpp
    dense_kernels.py   one pass over such rows, or four
    sums.py         the sum over all programs, and what divides it
    launch.py       from tensors and parameters to launches
    layouts.py      how tensors lie in memory
    self_check.py   a look at the kernels' numbers before their first use on a device

(a) IEEE operations only: add, subtract, multiply, fused multiply-add, compare, bits.  No division, no `tl.exp`, no
    libdevice, no inline PTX: the special-function unit's exponential alone breaks the promised accuracy at gamma 2.
    Kernels are always compiled with `enable_fp_fusion=False`.  So Triton's interpreter computes on a processor what the
    GPU computes, and tests/test_triton.py proves the accuracy without one.
(b) One program has a tile of elements or of rows, and works on `steps` tiles one after the other.  How many programs
    there are depends on the shapes alone, so the bits of a result do not depend on the card.
(c) No atomics and no host waits.  Each program writes its sum, in float64, and one more program adds these up; a
    binary loss of one program, up to 1024 logits, needs no other.  A divisor that is known only on the device is read
    from its memory.
(d) Offsets are int64.  An invalid label makes its own loss and gradient NaN, and reads nothing out of bounds.
(e) Half precision is computed in float32.  Float64 stays with torch's operations.
"""

"""The codec `planes` on a GPU: splitting, merging, and Huffman coded zstd frames both ways. No other room uses it yet.

`kernels/` is CUDA C++ that a C++ compiler takes as well (kernels/shim.cuh), which is how it is tested. `coder` is the host's side and
knows no GPU; `device` lends it one through CuPy. docs/gpu.md says what has been tried and what has not.
"""

"""The codec `planes` on a GPU: splitting, merging, and Huffman coded zstd frames both ways, by a process beside the workers.

`kernels/` is CUDA C++ that a C++ compiler takes as well (kernels/shim.cuh), which is how it is tested. `coder` and `batches` are the
host's side and know no GPU; `device` lends them one through CuPy. docs/gpu.md says what has been tried and what has not.
"""

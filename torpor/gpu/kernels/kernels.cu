/* All kernels, as one source for nvcc, NVRTC and a C++ compiler. */

#include "planes.cu"
#include "encode.cu"
#include "frames.cu"
#include "decode.cu"

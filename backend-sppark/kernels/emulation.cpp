// The kernels as plain C++: see platform.cuh.
#include "api.cu"

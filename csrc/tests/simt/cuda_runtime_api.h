// Stands in for CUDA's header of this name where kernels are compiled for the executor.
#pragma once
#include "simt.h"

// The marshaling of the TSS, for tests that compare ours with it. No program of ours links it.
#pragma once

#include <tss2/tss2_mu.h>

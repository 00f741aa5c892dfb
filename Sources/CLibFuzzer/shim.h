// The compiler's fuzzing runtime has no header. Of it we call one function, which takes the place
// of its `main`: SwiftPM gives every executable a `main` of its own.
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));

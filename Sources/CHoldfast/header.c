/* The functions are in Swift; this shows that the header is C by itself. */
#include "holdfast.h"

// libudev for Swift; everything in it imports by itself.
#pragma once

#include <libudev.h>

"""Usage: meter.py LIBRARY VENDOR STATE TPM; a product has the vendor's id in its source."""
import ctypes
import json
import sys

library, vendor, state, tpm = sys.argv[1:]
holdfast = ctypes.CDLL(library)
for name in ("open", "check"):
    getattr(holdfast, "holdfast_" + name).restype = ctypes.c_void_p
for name in ("decision_json", "error_message"):
    getattr(holdfast, "holdfast_" + name).restype = ctypes.c_char_p

license = ctypes.c_void_p(holdfast.holdfast_open(vendor.encode(), b"scanner", state.encode(), tpm.encode()))
decision = ctypes.c_void_p(holdfast.holdfast_check(license, b"scan"))
told = json.loads(holdfast.holdfast_decision_json(decision))
holdfast.holdfast_decision_free(decision)

result = 2
if told["allowed"]:
    print("scanning")
    result = holdfast.holdfast_meter(license, b"scan", ctypes.c_uint32(5))
    print("metered" if result == 0 else holdfast.holdfast_error_message().decode())
else:
    print("not scanning:", told["message"])
holdfast.holdfast_close(license)
sys.exit(result)

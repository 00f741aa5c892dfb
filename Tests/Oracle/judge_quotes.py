"""Judges quotes with tpm2-pytss and cryptography, which share no code with Holdfast.

Reads a line of JSON for each case from standard input, and writes a line for each: its id and
`accept`, or `refuse` with a reason. What is to be refused is written down here once more, from the
TCG's specifications; structures are read by tpm2-tss and signatures are checked by OpenSSL.
"""

import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from tpm2_pytss import types
from tpm2_pytss.constants import TPM2_ALG, TPM2_GENERATED, TPM2_ST, TPMA_OBJECT
from tpm2_pytss._libtpm2_pytss import ffi

HASHES = {
    TPM2_ALG.SHA1: hashlib.sha1,
    TPM2_ALG.SHA256: hashlib.sha256,
    TPM2_ALG.SHA384: hashlib.sha384,
    TPM2_ALG.SHA512: hashlib.sha512,
}
NEEDED = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.RESTRICTED
    | TPMA_OBJECT.SIGN_ENCRYPT
)
FORBIDDEN = TPMA_OBJECT.DECRYPT | TPMA_OBJECT.ENCRYPTEDDUPLICATION


class Refused(Exception):
    pass


def demand(condition, reason):
    if not condition:
        raise Refused(reason)


def whole(kind, data):
    """Reads a structure that must fill the bytes."""
    try:
        value, used = kind.unmarshal(data)
    except Exception as error:
        raise Refused(f"{kind.__name__} cannot be read: {error}")
    demand(used == len(data), f"{len(data) - used} bytes behind {kind.__name__}")
    return value


def selected(selection):
    """Banks with their PCRs, as a list of (hash, [indexes])."""
    banks = []
    for place in range(selection.count):
        bank = selection.pcrSelections[place]
        bits = bytes(bank.pcrSelect[octet] for octet in range(bank.sizeofSelect))
        indexes = [n for n in range(8 * len(bits)) if bits[n // 8] >> n % 8 & 1]
        banks.append((int(bank.hash), indexes))
    return banks


def recorded(data):
    """The file of `tpm2_quote -o`, laid out as the C library's structures lie in memory."""
    head, each = ffi.sizeof("TPML_PCR_SELECTION"), ffi.sizeof("TPML_DIGEST")
    demand(len(data) >= head + 4, "the values are cut")
    selection = ffi.from_buffer("TPML_PCR_SELECTION *", data[:head])
    demand(selection.count <= 16, "too many banks")
    count = int.from_bytes(data[head : head + 4], "little")
    demand(len(data) == head + 4 + count * each, "the values have another length")
    digests = []
    for place in range(count):
        start = head + 4 + place * each
        part = ffi.from_buffer("TPML_DIGEST *", data[start : start + each])
        demand(part.count <= 8, "too many values in a list")
        for number in range(part.count):
            demand(part.digests[number].size <= 64, "a value is too long")
            digests.append(bytes(part.digests[number].buffer)[: part.digests[number].size])
    values = {}
    for bank, indexes in selected(selection):
        demand(bank in HASHES, "an unknown bank")
        for index in indexes:
            demand(digests and (bank, index) not in values, "values and selection differ")
            value = digests.pop(0)
            demand(len(value) == HASHES[bank]().digest_size, "a value of another length")
            values[bank, index] = value
    demand(not digests, "values that nothing selects")
    return values


def asked(text):
    banks = []
    for part in text.split("+"):
        name, numbers = part.split(":")
        banks.append(
            (int(getattr(TPM2_ALG, name.upper())), sorted(int(n) for n in numbers.split(",")))
        )
    return banks


def unused(bank, index, value):
    if index > 7 or any(value[:-1]):
        return False
    return value[-1] == 0 or index == 0 and value[-1] in (3, 4)


def judge(case):
    data = {
        name: bytes.fromhex(case[name])
        for name in ("public", "message", "signature", "nonce", "values")
    }
    area = whole(types.TPMT_PUBLIC, data["public"])
    attributes = int(area.objectAttributes)
    demand(attributes & NEEDED == NEEDED, "the key lacks an attribute")
    demand(not attributes & FORBIDDEN, "the key has an attribute that it must not have")
    details = (
        area.parameters.eccDetail if area.type == TPM2_ALG.ECC else area.parameters.rsaDetail
    )
    demand(details.symmetric.algorithm == TPM2_ALG.NULL, "a storage key")
    demand(area.nameAlg != TPM2_ALG.SHA1, "a Name of SHA-1")
    signature = whole(types.TPMT_SIGNATURE, data["signature"])
    demand(signature.sigAlg == details.scheme.scheme, "another scheme")
    signing = int(signature.signature.any.hashAlg)
    demand(signing == details.scheme.details.anySig.hashAlg, "another hash")
    demand(signing in HASHES and signing != TPM2_ALG.SHA1, "a hash that is not accepted")
    try:
        signature.verify_signature(area, data["message"])
    except InvalidSignature:
        raise Refused("the signature")
    except Exception as error:
        raise Refused(f"the signature: {error}")
    attest = whole(types.TPMS_ATTEST, data["message"])
    demand(attest.magic == TPM2_GENERATED.VALUE, "the magic")
    demand(attest.type == TPM2_ST.ATTEST_QUOTE, "the type")
    demand(16 <= len(data["nonce"]) <= 32, "the size of the nonce")
    demand(bytes(attest.extraData) == data["nonce"], "the nonce")
    banks = selected(attest.attested.quote.pcrSelect)
    demand(banks == asked(case["selection"]), "the selection")
    demand(len({bank for bank, _ in banks}) == len(banks), "a bank stands twice")
    demand(all(bank != TPM2_ALG.SHA1 for bank, _ in banks), "a SHA-1 bank")
    demand(any(n < 16 for _, indexes in banks for n in indexes), "no PCR of the boot")
    values = recorded(data["values"])
    joined = b""
    for bank, indexes in banks:
        for index in indexes:
            demand((bank, index) in values, "a value is missing")
            value = values.pop((bank, index))
            demand(not unused(bank, index, value), "a PCR that nobody extended")
            joined += value
    demand(not values, "a value that is not quoted")
    digest = HASHES[signing](joined).digest()
    demand(bytes(attest.attested.quote.pcrDigest) == digest, "the digest")


for line in sys.stdin:
    case = json.loads(line)
    try:
        judge(case)
        print(case["id"], "accept")
    except Refused as refusal:
        print(case["id"], "refuse", refusal)

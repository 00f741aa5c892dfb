"""Judges attestation results with PyJWT, which shares no code with Holdfast.

Reads a line of JSON for each case from standard input, and writes a line for each: its id and
`accept` with the status of the result, or `refuse` with a reason. What a relying party demands is
written down here once more, from the drafts of EAR and AR4SI.
"""

import base64
import hashlib
import json
import sys

import jwt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

STATUSES = ["none", "affirming", "warning", "contraindicated"]
ASPECTS = {
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
}


class Refused(Exception):
    pass


def demand(condition, reason):
    if not condition:
        raise Refused(reason)


def tier(value):
    """AR4SI, "Trustworthiness Tiers"."""
    demand(type(value) is int and -128 <= value <= 127, f"{value} is no claim")
    if -1 <= value <= 1:
        return "none"
    return "affirming" if -32 <= value < 32 else "warning" if -96 <= value < 96 else "contraindicated"


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def judge(case):
    pem = case["pem"].encode()
    claims = jwt.decode(
        case["token"],
        pem,
        algorithms=["ES256"],
        options={"require": ["iat", "eat_nonce", "eat_profile", "submods", "ear.verifier-id"]},
    )
    key = load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    demand(
        jwt.get_unverified_header(case["token"])["kid"] == text(hashlib.sha256(key).digest()),
        "kid is of another key",
    )
    demand(claims["eat_profile"] == "tag:github.com,2023:veraison/ear", "another profile")
    demand(claims["eat_nonce"] == text(bytes.fromhex(case["nonce"])), "another nonce")
    demand(set(claims["ear.verifier-id"]) == {"build", "developer"}, "no verifier is named")
    demand(len(claims["submods"]) == 1, "not one attester")
    (result,) = claims["submods"].values()
    status = result["ear.status"]
    demand(status in STATUSES, "an unknown status")
    vector = result.get("ear.trustworthiness-vector", {})
    demand(set(vector) <= ASPECTS, "an unknown aspect")
    worst = max([STATUSES.index(tier(value)) for value in vector.values()], default=0)
    demand(STATUSES.index(status) >= worst, "the status is better than the vector")
    return status


for line in sys.stdin:
    case = json.loads(line)
    try:
        print(case["id"], "accept", judge(case))
    except (Refused, KeyError, jwt.InvalidTokenError) as error:
        print(case["id"], "refuse", str(error).replace("\n", " "))

"""Judges PASETO tokens with pyseto, which shares no code with Holdfast, and makes the same ones.

Reads a line of JSON for each case from standard input, and writes a line for each: its id and
`accept` with a token that pyseto makes of what it read, or `refuse` with a reason. What footer and
implicit assertion must be is written down here once more, from docs/spec/formats.md.
"""

import hashlib
import json
import struct
import sys

import pyseto
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pyseto import Key, Token

# What is signed for everyone; the rest is for one device.
FOR_ALL = {"trust", "terms", "policy", "test-license"}


class Refused(Exception):
    pass


def demand(condition, reason):
    if not condition:
        raise Refused(reason)


def hash_of(label, *fields):
    framed = b"holdfast/1/" + label + b"\0"
    for field in fields:
        framed += struct.pack(">I", len(field)) + field
    return hashlib.sha256(framed).digest()


def text(data):
    return pyseto.utils.base64url_encode(data)


def keys(case):
    """The key that opens, and the one that makes."""
    key = bytes.fromhex(case["key"])
    if case["purpose"] == "local":
        both = Key.new(version=4, purpose="local", key=key)
        return both, both
    secret = Ed25519PrivateKey.from_private_bytes(key)
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Key.new(4, "public", public), Key.new(4, "public", pem)


def judge(case):
    opening, making = keys(case)
    about, name = bytes.fromhex(case["about"]), bytes.fromhex(case["name"])
    assertion = hash_of(b"device-binding", about, name) if about else b""
    assertion += bytes.fromhex(case["suffix"])
    footer = b""
    if case["purpose"] == "public":
        footer = opening.to_paserk_id().encode()
        if about:
            footer += b"." + text(hash_of(b"recipient", about, name)[:8])
    token = case["token"].encode()
    read = pyseto.decode(opening, token, implicit_assertion=assertion)
    demand(read.footer == footer, "another footer")
    if case["kind"]:
        claims = json.loads(read.payload)
        demand(claims["kind"] == case["kind"], "another kind")
        demand((case["kind"] in FOR_ALL) == (not about), "for others")
    nonce = b""
    if case["purpose"] == "local" and case["again"] == "yes":
        nonce = Token.new(token).payload[:32]
    return pyseto.encode(making, read.payload, footer, assertion, nonce).decode()


for line in sys.stdin:
    case = json.loads(line)
    try:
        print(case["id"], "accept", judge(case))
    except (Refused, KeyError, ValueError, pyseto.PysetoError) as error:
        print(case["id"], "refuse", str(error).replace("\n", " "))

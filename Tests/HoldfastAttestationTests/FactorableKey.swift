import CryptoExtras
import Foundation

/// A key of the kind that CVE-2017-15361 is about: both primes are powers of 65,537 modulo the product of
/// the primes up to 167.
///
/// Made for these tests, with its private half, so that what it signs is genuine.
func factorableKey() throws -> _RSA.Signing.PrivateKey {
    try _RSA.Signing.PrivateKey(
        derRepresentation: Data(
            base64Encoded: factorable, options: .ignoreUnknownCharacters) ?? Data())
}

private let factorable = """
    MIIEpQIBAAKCAQEAuabnQkjNGZJjtaEhRGfnyz5FT3+l0kFCANZZQ6eghZpADZyEbc3gdanPJJ+14iDZ+uhM
    g8qPCOU3+iNWahqNalHPUV2BXZTc35r3rhsdboujUPvz5d6uOxtMLFUhnQcmJikD1yrq1VBHqvemJl4Jh1Zs
    LA4ibObkX/tPFkvINYgqBBLMy3CEQoNoIz6uWrraSR8qaRZxqN1yUrqY43yVpAb6ZzOzJmgzaYQMzZuQQ+KG
    R485bvKjD+EH4FAIrLGqt3COWaXd1ySqEAe4Kh3sdglpF/QaThfok4ENoVJyG4fOoV2WyT+/ZWF6nqXACSL3
    Ez6PXod15zHOvIx0bbqO2wIDAQABAoIBAFCtd1IW0QqL00ja/Nn9TX3FUdl6X1U/hq9WdvQvpFJq9er0WZhe
    H20CnkIMJb5fCFtBF/8tx3rWIb1SHft+DnZllvKE7/L6/gEuFvRSVDf19sL6usLqQkztT+z0Eedrc+ihaknX
    HLYWbQ6fEFUcCIgHxnpeqhcpP5V2YKgPxrF7/Nlxrx7hdlOi5vzlz4A9YvQrqh4bern7gWWJzWcNqvfIhy5F
    NrQv9nfqneG/hFrkSKBIfpTh6lQLtU0dg9mAsEn8Bf/53L1CFwp3+R4+z6JkfKddbShmOS4p/CJcD3ArxZhh
    a6DaTDSUVQuva6a5AAI3S8g58+l+wYtij7VfOgECgYEA6X/OE6sIdPA2Z2tmWa5CTe7MldCNHw6lB1ZSET60
    dnKMBkrFNZqvYW1mrBWVZAS0fULUR4+FKiiWuQ1q8anUloU9hAHthGGM4ZfBIubeC4+RrL1Ph9Hg9n6K55K2
    IrjGS+Y/SijGXh2NAHL1XOC3j+zO56cDDEa8up3t71EU52cCgYEAy4rA6CaV5EX+PNY4So1KNZ1/wWFCVwMC
    Yg9Ku44aOZtxwiTzDEZXNuA0MW9GQwVJVFbXbnHVB6nTJAemzptFsSbe59ycelSGV5oVE5/xOlh66ItOq77F
    44Q/+szPo0RPHyuF0FiCwTgBQzsuc6RZy94HZ0opjY0Egw7DGCsuuG0CgYEA6Qdopc5SIUo+MVZJDgVQHLDO
    slExFaaq4jiurJE0zuUgg4MJb6bRktz405Kyxd/ANSaF7mj4UAuz6DjQ2x9Pj2yn6N93qF8ml1m5IVjgjw8Y
    JhnEjlrSNY4ymEudw+c91y+RSDSLTBAX0TPpVWjbKSL/lsbhztWlsmS8udLkls8CgYEAmt5bQwhA2mxrMkzo
    jckNYtgQocnn2R7ADG6INUa9K4Hbv5WvnHJU37sd21NISaxXDCX7Styv82HC9lIgGGnKUC08Q3z3TpjLkxH4
    4XK77+Hsus1sMX85QJCawbBeeGJ8NUI/UbRW4L9FLqtz/6dYb6bjSTMDhOF8Ql/UD6qjpM0CgYEAo8VN1MBH
    7OLsIY8ildcOe/zWtCXJz8eMyOBIeUYHByrpDAWWCGQi/cuFR1tUbpDYS/BCxAQbmyCdVwK09FtFGOKoDETX
    +zE/eDzaeAGDmTBRPJzNXqaVOW5CM10NrZm+CrQ1cSXjSDLWzMmFrXRkFODu7B+Mz1TsoT8+/SacqT0=
    """

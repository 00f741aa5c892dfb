import Foundation
import HoldfastCrypto
import Testing

/// Bytes of a text.
func utf8(_ text: String) -> [UInt8] { Array(text.utf8) }

/// Bytes of hexadecimal digits that stand in a test.
func hex(_ text: String) throws -> [UInt8] { try Hex.decode(variableTime: text) }

/// The bytes first, first + 1, and so on.
func counting(from first: UInt8 = 0, _ count: Int) -> [UInt8] {
    (0..<count).map { first &+ UInt8(truncatingIfNeeded: $0) }
}

extension SecretBytes {
    /// What a test may do and nobody else.
    func revealed() -> [UInt8] {
        withBytes { bytes in bytes.indices.map { bytes[$0] } }
    }
}

/// Every way to change one bit, to leave out the end, and to add to it.
func damaged(_ bytes: [UInt8]) -> [[UInt8]] {
    var all: [[UInt8]] = [bytes + [0]]
    for index in bytes.indices {
        all.append(Array(bytes[..<index]))
        for bit in 0..<8 {
            var changed = bytes
            changed[index] ^= 1 << bit
            all.append(changed)
        }
    }
    return all
}

/// A random source that gives the same bytes each time.
func fixed(_ bytes: [UInt8]) -> RandomSource { RandomSource { Array(bytes.prefix($0)) } }

/// One test of the published PASETO and PASERK vectors.
struct PublishedVector: Decodable, Sendable, CustomTestStringConvertible {
    var name: String
    var expectFail: Bool
    var key: String?
    var nonce: String?
    var publicKey: String?
    var secretKeySeed: String?
    var token: String?
    var paserk: String?
    var payload: String?
    var footer: String?
    var implicitAssertion: String?

    enum CodingKeys: String, CodingKey {
        case name, key, nonce, token, paserk, payload, footer
        case expectFail = "expect-fail"
        case publicKey = "public-key"
        case secretKeySeed = "secret-key-seed"
        case implicitAssertion = "implicit-assertion"
    }

    var testDescription: String { name }

    private struct File: Decodable { var tests: [PublishedVector] }

    /// The vectors of a file beside the project; none where the file is not.
    static func read(_ name: String) -> [PublishedVector] {
        let root = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let file = root.appending(path: "../shared/vectors/paseto/\(name).json").standardized
        guard let data = try? Data(contentsOf: file) else { return [] }
        do { return try JSONDecoder().decode(File.self, from: data).tests } catch {
            preconditionFailure("\(file.path): \(error)")
        }
    }
}

import FoundationEssentials
import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("measurement lists", .timeLimit(.minutes(20)))
struct IMAListTests {
    static func digest(_ text: String, kind: String = "ima") -> IMAEntry.Digest {
        IMAEntry.Digest(
            kind: kind, algorithm: "sha256", bytes: HashAlgorithm.sha256.digest(Array(text.utf8)))
    }

    /// Reads a list in pieces of a size.
    static func parse(_ bytes: [UInt8], pieces: Int = 4096) throws -> [IMAEntry] {
        var parser = IMAListParser()
        var entries: [IMAEntry] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            parser.append([UInt8](rest.prefix(pieces)))
            rest = rest.dropFirst(pieces)
            while let entry = try parser.next() { entries.append(entry) }
        }
        parser.end()
        while let entry = try parser.next() { entries.append(entry) }
        return entries
    }

    static func error(_ bytes: [UInt8]) -> IMAError? {
        do {
            _ = try parse(bytes)
            return nil
        } catch { return error as? IMAError }
    }

    /// One entry of each template.
    static func everyTemplate() -> IMAListWriter {
        var list = IMAListWriter()
        let ng = IMAListWriter.field(digest("a"))
        let verity = IMAListWriter.field(digest("b", kind: "verity"))
        let ngv2 = Array("ima:".utf8) + ng
        let name = Array("/bin/a b".utf8) + [0]
        list.append("ima-ng", fields: [ng, name])
        list.append("ima", fields: [[UInt8](repeating: 7, count: 20), Array("/old".utf8)])
        list.append("ima-sig", fields: [ng, name, []])
        list.append("ima-sig", fields: [ng, name, [3, 2, 4, 1]])
        list.append("ima-ngv2", fields: [verity, name])
        list.append("ima-sigv2", fields: [ngv2, name, [1]])
        list.append("ima-buf", fields: [ng, Array("kexec-cmdline".utf8) + [0], Array("ro".utf8)])
        list.append("ima-modsig", fields: [ng, name, [], [], []])
        list.append("d-ng|n-ng", fields: [ng, name])
        list.violation("/var/log/x")
        return list
    }

    /// The ASCII form, as the kernel prints it.
    static func ascii(_ list: IMAListWriter) throws -> [UInt8] {
        var text = ""
        for entry in try parse(list.bytes) {
            let sha1 = hexadecimal(entry.loggedDigest)
            let name = String(decoding: entry.name, as: UTF8.self)
            let digest =
                entry.template == "ima"
                ? hexadecimal(entry.digest.bytes)
                : (entry.template.hasSuffix("v2") && entry.digest.kind == "ima" ? "ima:" : "")
                    + entry.digest.text
            let more =
                switch entry.template {
                case "ima-sig": text.contains("ima-sig ") ? " 03020401" : " "
                case "ima-sigv2": " 01"
                case "ima-buf": " 726f"
                case "ima-modsig": "   "
                default: ""
                }
            text += "10 \(sha1) \(entry.template) \(digest) \(name)\(more)\n"
        }
        return Array(text.utf8)
    }

    @Test("every template is read, and hashes to what the kernel logs", arguments: [1, 7, 4096])
    func templates(pieces: Int) throws {
        let entries = try Self.parse(Self.everyTemplate().bytes, pieces: pieces)
        #expect(entries.count == 10)
        for entry in entries where !entry.isViolation {
            #expect(entry.templateDigest(.sha1) == entry.loggedDigest, "\(entry.template)")
        }
        #expect(entries.last?.isViolation == true)
        #expect(entries[4].digest.text.hasPrefix("verity:sha256:"))
        #expect(entries[5].digest.text.hasPrefix("sha256:"))
        #expect(entries[1].digest.algorithm == "sha1")
        #expect(entries[0].name == Array("/bin/a b".utf8))
        #expect(entries[0].printableName == "/bin/a b")
    }

    @Test("the ASCII form says the same, but for names with a space", arguments: [1, 7, 4096])
    func asciiForm(pieces: Int) throws {
        var list = IMAListWriter()
        let ng = IMAListWriter.field(Self.digest("a"))
        let name = Array("/bin/a_b".utf8) + [0]
        list.append("ima-ng", fields: [ng, name])
        list.append("ima", fields: [[UInt8](repeating: 7, count: 20), Array("/old".utf8)])
        list.append("ima-sig", fields: [ng, name, []])
        list.append("ima-sig", fields: [ng, name, [3, 2, 4, 1]])
        list.append("ima-ngv2", fields: [Array("ima:".utf8) + ng, name])
        list.append("ima-sigv2", fields: [Array("ima:".utf8) + ng, name, [1]])
        list.append("ima-buf", fields: [ng, Array("kexec-cmdline".utf8) + [0], Array("ro".utf8)])
        list.append("ima-modsig", fields: [ng, name, [], [], []])
        list.violation("/var/log/x")
        let expected = try Self.parse(list.bytes)
        let read = try Self.parse(Self.ascii(list), pieces: pieces)
        #expect(read.count == expected.count)
        for (one, other) in zip(read, expected) {
            #expect(one.digest == other.digest && one.name == other.name)
            #expect(one.templateDigest(.sha384) == other.templateDigest(.sha384))
        }
        var shifted = try Self.ascii(list)
        shifted += Array("10 00 ima-ng x\n".utf8)
        #expect(Self.error(shifted) == .malformed(entry: 9, reason: "the line is none of a list"))
        // Names with spaces, and signatures that were lost because empty.
        list.append("ima-ng", fields: [ng, Array("/a b  c".utf8) + [0]])
        list.append("ima-sig", fields: [ng, Array("/a b".utf8) + [0], [5]])
        let sha1 = try Self.parse(list.bytes).suffix(2).map { hexadecimal($0.loggedDigest) }
        let digest = Self.digest("a").text
        let odd = """
            10 \(sha1[0]) ima-ng \(digest) /a b  c
            10 \(sha1[1]) ima-sig \(digest) /a b 05
            10 \(hexadecimal(expected[2].loggedDigest)) ima-sig \(digest) /bin/a_b
            """
        let told = try Self.parse(Array(odd.utf8), pieces: pieces)
        #expect(told.count == 3)
        for entry in told { #expect(entry.templateDigest(.sha1) == entry.loggedDigest) }
    }

    @Test("a big-endian list is told by its first entry, and its lengths are hashed so")
    func bigEndian() throws {
        let digest = IMAListWriter.field(Self.digest("a"))
        func big(_ value: Int) -> [UInt8] { [0, 0, UInt8(value >> 8), UInt8(value & 0xFF)] }
        let name = Array("boot_aggregate".utf8) + [0]
        let data = big(digest.count) + digest + big(name.count) + name
        let hash = HashAlgorithm.sha1.digest(data)
        let entry = big(10) + hash + big(6) + Array("ima-ng".utf8) + big(data.count) + data
        let read = try Self.parse(entry + entry)
        #expect(read.count == 2)
        #expect(read[0].pcr == 10 && read[0].templateDigest(.sha1) == hash)
        var parser = IMAListParser()
        parser.append(entry)
        parser.end()
        _ = try parser.next()
        #expect(parser.form == .bigEndian)
        // The ASCII form of the same machine.
        let line =
            "10 \(hexadecimal(hash)) ima-ng \(Self.digest("a").text) boot_aggregate\n"
        let told = try Self.parse(Array((line + line).utf8))
        #expect(told.allSatisfy { $0.templateDigest(.sha1) == hash })
        // Half of it little-endian.
        var mixed = IMAListWriter()
        mixed.measure("x", digest: Self.digest("x"))
        #expect(Self.error(entry + mixed.bytes) != nil)
    }

    @Test("the list of another bank has a longer template hash", arguments: [32, 48, 64])
    func bankLists(size: Int) throws {
        let hash = try #require(HashAlgorithm.allCases.first { $0.digestSize == size })
        var list = IMAListWriter()
        let record = list.measure("/bin/a", digest: Self.digest("a"))
        let bytes =
            Array(record.bytes.prefix(4)) + hash.digest(record.data) + record.bytes.dropFirst(24)
        let read = try Self.parse(bytes + bytes)
        #expect(read.map(\.loggedDigest) == [hash.digest(record.data), hash.digest(record.data)])
        #expect(Self.error(bytes + record.bytes) != nil, "the size changes in between")
    }

    @Test("a list that ends anywhere but behind an entry is refused")
    func truncated() throws {
        let list = Self.everyTemplate()
        var ends: [Int] = []
        for end in 0..<list.bytes.count {
            guard let read = try? Self.parse(Array(list.bytes[..<end])) else { continue }
            ends.append(read.count)
        }
        #expect(ends == Array(1..<list.records.count))
        #expect(Self.error([]) == .empty)
        #expect(Self.error(list.bytes + [0]) == .truncated(entry: 10))
        #expect(Self.error(Array("hello, world\n".utf8)) == .notAList)
        #expect(Self.error([UInt8](repeating: 0, count: 1000)) == .notAList)
        #expect(Self.error([UInt8](repeating: 0xFF, count: 1000)) == .notAList)
    }

    @Test("no changed byte is read as the same list, and none crashes")
    func bytes() throws {
        let list = Self.everyTemplate()
        let original = try Self.parse(list.bytes)
        for place in list.bytes.indices {
            for change in [0x01, 0x80, 0xFF] as [UInt8] {
                var changed = list.bytes
                changed[place] ^= change
                #expect((try? Self.parse(changed)) != original, "byte \(place)")
            }
        }
    }

    @Test("lengths are refused before anything is kept for them")
    func lengths() throws {
        var list = IMAListWriter()
        list.measure("/a", digest: Self.digest("a"))
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0x7F]
        let start = Array(list.bytes.prefix(34))
        #expect(
            Self.error(start + huge + [UInt8](repeating: 0, count: 500))
                == .tooLarge(
                    entry: 0, field: "template data", size: 0x7FFF_FFFF,
                    maximum: IMAListParser.maximumEntry))
        let second = list.bytes + Array(list.bytes.prefix(24)) + huge
        #expect(
            Self.error(second + [UInt8](repeating: 0, count: 8))
                == .tooLarge(
                    entry: 1, field: "template name", size: 0x7FFF_FFFF, maximum: 255))
        // A line that never ends.
        var parser = IMAListParser()
        parser.append(Array("10 ".utf8))
        let block = [UInt8](repeating: 0x61, count: 65536)
        var refused = false
        for _ in 0..<64 where !refused {
            parser.append(block)
            do { _ = try parser.next() } catch { refused = true }
        }
        #expect(refused)
    }

    @Test("a name of the first template has 255 bytes at most, in a line as well")
    func longName() throws {
        func read(_ size: Int) throws -> [IMAEntry] {
            let digest = String(repeating: "0", count: 40)
            let name = String(repeating: "a", count: size)
            var parser = IMAListParser()
            parser.append(Array("10 \(digest) ima \(digest) \(name)\n".utf8))
            parser.end()
            var found: [IMAEntry] = []
            while let entry = try parser.next() { found.append(entry) }
            return found
        }
        #expect(try read(255).count == 1)
        for size in [256, 257, 1000] {
            let refusal = IMAError.tooLarge(entry: 0, field: "name", size: size, maximum: 255)
            #expect(throws: refusal) { _ = try read(size) }
        }
    }

    @Test("an entry that contradicts its template is refused")
    func contradictions() {
        let ng = IMAListWriter.field(Self.digest("a"))
        let name = Array("/a".utf8) + [0]
        let wrong: [(String, [[UInt8]])] = [
            ("ima-ng", [ng]), ("ima-ng", [ng, name, []]), ("ima-ng", [ng, Array("/a".utf8)]),
            ("ima-ng", [ng, [0x2F, 0, 0x61, 0]]), ("ima-ng", [Array(ng.dropLast()), name]),
            ("ima-ng", [ng + [0], name]), ("ima-ng", [Array("sha256".utf8), name]),
            ("ima-ng", [Array("SHA256:".utf8) + [0] + [1], name]),
            ("ima-ngv2", [ng, name]), ("ima-ng", [Array("ima:".utf8) + ng, name]),
            ("n-ng", [name]), ("d-ng", [ng]), ("nothing", [ng, name]), ("d-ng|x", [ng, name]),
            // What stands first is what is read, and nothing that follows instead of it.
            ("n-ng|d-ng", [name, ng]), ("sig|n-ng|d-ng", [ng, name, ng]),
            ("d-ng|sig|n-ng", [ng, name, name]), ("d-ng|n-ng|n-ng", [ng, name, name]),
            ("d-ng|n-ng|d-ng", [ng, name, ng]),
            ("d|n-ng", [[UInt8](repeating: 1, count: 20), name]),
        ]
        for (template, fields) in wrong {
            var list = IMAListWriter()
            list.append(template, fields: fields)
            #expect(Self.error(list.bytes) != nil, "\(template) \(fields)")
        }
        var beyond = IMAListWriter()
        beyond.measure("/a", digest: Self.digest("a"))
        beyond.append("ima-ng", fields: [ng, name], pcr: 24)
        #expect(Self.error(beyond.bytes) != nil)
    }

    @Test("a name is never a command to a terminal")
    func names() {
        #expect(printable(Array("a\u{1B}[2Jb\\é\n".utf8)) == "a\\x1b[2Jb\\\\\\xc3\\xa9\\x0a")
    }

    @Test("a recorded list says what is known of it")
    func recording() throws {
        var root = URL(filePath: #filePath)
        for _ in 0..<4 { root.deleteLastPathComponent() }
        let file = root.appending(path: "shared/recordings/ima/ascii_runtime_measurements")
        guard let data = try? Data(contentsOf: file) else { return }
        let entries = try Self.parse([UInt8](data), pieces: 1000)
        #expect(entries.count == 826)
        #expect(entries.first?.name == Array("boot_aggregate".utf8))
        for entry in entries { #expect(entry.templateDigest(.sha1) == entry.loggedDigest) }
        // Without the last line feed, and without the last letter of the last name.
        #expect(try Self.parse([UInt8](data.dropLast())) == entries)
        let cut = try Self.parse([UInt8](data.dropLast(2)))
        #expect(cut.last.map { $0.templateDigest(.sha1) == $0.loggedDigest } == false)
    }
}

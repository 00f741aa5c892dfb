import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire
import Testing

@Suite("what a measurement list proves")
struct IMAAppraisalTests {
    /// A machine that measures, without a TPM: registers are computed.
    struct Kernel {
        var list = IMAListWriter()
        var values = PCRValues()
        private let padded: Bool

        init(aggregate bank: HashAlgorithm = .sha256, through last: UInt8 = 9, padded: Bool = false)
        {
            self.padded = padded
            for hash in [HashAlgorithm.sha256, .sha384] {
                for index in PCRIndex.all.prefix(11) {
                    values[hash, index] = [UInt8](
                        repeating: index.rawValue == 10 ? 0 : index.rawValue + 1,
                        count: hash.digestSize)
                }
            }
            extend(list.bootAggregate(of: values, bank: bank, through: last))
        }

        mutating func extend(_ record: IMAListWriter.Record) {
            for hash in [HashAlgorithm.sha256, .sha384] {
                let before = values[hash, PCRIndex.all[10]] ?? []
                values[hash, PCRIndex.all[10]] = hash.digest(
                    before, padded ? record.padded(hash) : record.extended(hash))
            }
        }

        mutating func run(_ path: String, _ content: String) {
            extend(list.measure(path, digest: IMAAppraisalTests.digest(content)))
        }
    }

    static func digest(_ text: String) -> IMAEntry.Digest {
        IMAEntry.Digest(
            kind: "ima", algorithm: "sha256", bytes: HashAlgorithm.sha256.digest(Array(text.utf8)))
    }

    static func policy(_ members: String = "", engine: String = "engine") throws -> IMAPolicy {
        try IMAPolicy(
            Array(
                """
                { "version": 1, "files": { "/usr/bin/engine": ["\(digest(engine).text)"],
                  "/bin/sh": ["\(digest("sh").text)"] }, "require": ["/usr/bin/engine"]\(members) }
                """.utf8))
    }

    private static let boot = BootInstance(resetCount: 3, restartCount: 0)

    private func appraise(
        _ bytes: [UInt8], _ values: PCRValues?, policy: IMAPolicy? = nil, state: IMAState? = nil,
        boot: BootInstance? = boot
    ) -> IMAAppraisal {
        var appraiser = IMAAppraiser(
            explaining: values, policy: policy, continuing: state, boot: boot)
        var rest = bytes[...]
        while !rest.isEmpty {
            appraiser.append([UInt8](rest.prefix(100)))
            rest = rest.dropFirst(100)
        }
        return appraiser.finish()
    }

    private func failed(_ appraisal: IMAAppraisal) -> Set<IMACheck> {
        #expect(appraisal.results.map(\.check) == IMACheck.allCases)
        let failed = Set(appraisal.refusals.map(\.check))
        #expect(Verdict(appraisal).verdict == (failed.isEmpty ? "valid" : "refused"))
        for result in appraisal.results {
            #expect(result.reason.isEmpty == (result.outcome == .passed))
        }
        #expect(failed.isEmpty || appraisal.state == nil)
        return failed
    }

    private func machine() -> Kernel {
        var kernel = Kernel()
        kernel.run("/bin/sh", "sh")
        kernel.run("/usr/bin/engine", "engine")
        return kernel
    }

    @Test("a list that replays to PCR 10 in every bank is proven, with the engine's digest")
    func accepted() throws {
        let kernel = machine()
        let appraisal = appraise(kernel.list.bytes, kernel.values, policy: try Self.policy())
        #expect(failed(appraisal) == [])
        #expect(appraisal.facts.proven == 3)
        #expect(appraisal.facts.bootAggregate == "sha256:0-9")
        #expect(appraisal.facts.banks == ["sha256": "template-hash", "sha384": "template-hash"])
        #expect(
            appraisal.facts.required == ["/usr/bin/engine": [Self.digest("engine").text]])
        #expect(appraisal.results.first { $0.check == .sameBoot }?.outcome == .notApplicable)
    }

    @Test("R38: a modified engine is refused, and so is one that was not measured")
    func engine() throws {
        var kernel = Kernel()
        kernel.run("/bin/sh", "sh")
        let policy = try Self.policy()
        #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: policy)) == [.required])
        kernel.run("/usr/bin/engine", "engine, modified")
        #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: policy)) == [.files])
        // The unmodified one afterwards does not heal it.
        kernel.run("/usr/bin/engine", "engine")
        #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: policy)) == [.files])
        // Nor does it help to write the list otherwise.
        let honest = machine()
        #expect(
            failed(appraise(honest.list.bytes, kernel.values, policy: policy))
                .isSuperset(of: [.explainsPCR]))
    }

    @Test("what follows the quoted value is not trusted, and nothing before it is left out")
    func prefix() throws {
        let quoted = machine()
        var later = quoted
        later.run("/tmp/malware", "malware")
        let policy = try Self.policy()
        let longer = appraise(later.list.bytes, quoted.values, policy: policy)
        #expect(failed(longer) == [])
        #expect(longer.facts.proven == 3 && longer.facts.entries == 4)
        #expect(failed(appraise(later.list.bytes, later.values, policy: policy)) == [.files])
        // A file that is measured only behind the quote was not proven.
        var before = Kernel()
        before.run("/bin/sh", "sh")
        #expect(failed(appraise(quoted.list.bytes, before.values, policy: policy)) == [.required])
        // An entry less, and two that changed places.
        let bytes = later.list.records.map(\.bytes)
        let shorter = [UInt8]((bytes[..<2] + bytes[3...]).joined())
        #expect(
            failed(appraise(shorter, later.values, policy: policy)).contains(.explainsPCR))
        let swapped = [UInt8]([bytes[0], bytes[2], bytes[1], bytes[3]].joined())
        #expect(
            failed(appraise(swapped, later.values, policy: policy)).contains(.explainsPCR))
    }

    @Test("no changed byte of the proven part is accepted")
    func everyByte() throws {
        let kernel = machine()
        let policy = try Self.policy()
        for place in kernel.list.bytes.indices {
            for change in [0x01, 0x20] as [UInt8] {
                var changed = kernel.list.bytes
                changed[place] ^= change
                var appraiser = IMAAppraiser(
                    explaining: kernel.values, policy: policy, continuing: nil, boot: nil)
                appraiser.append(changed)
                #expect(!appraiser.finish().refusals.isEmpty, "byte \(place)")
            }
        }
    }

    @Test("an empty list, a cut one and values without PCR 10 pass nothing")
    func unreadable() throws {
        let kernel = machine()
        let policy = try Self.policy()
        let all = Set(IMACheck.allCases).subtracting([.sameBoot])
        #expect(failed(appraise([], kernel.values, policy: policy)) == all)
        #expect(
            failed(appraise(Array(kernel.list.bytes.dropLast()), nil)).contains(.wellFormed))
        #expect(
            failed(appraise(kernel.list.bytes, kernel.values.withoutIMA, policy: policy))
                == [.explainsPCR, .bankHashes, .bootAggregate])
        var zeros = kernel.values
        zeros[.sha256, PCRIndex.all[10]] = [UInt8](repeating: 0, count: 32)
        #expect(failed(appraise(kernel.list.bytes, zeros)).contains(.explainsPCR))
        // One bank is explained, the other is not.
        var other = kernel.values
        other[.sha384, PCRIndex.all[10]] = [UInt8](repeating: 1, count: 48)
        #expect(failed(appraise(kernel.list.bytes, other)).contains(.explainsPCR))
    }

    @Test("a template hash that is not that of the entry is refused")
    func templateHash() throws {
        var kernel = machine()
        kernel.run("/bin/sh", "sh")
        var bytes = kernel.list.bytes
        // Not what any bank but SHA-1 is extended with: nothing else would notice.
        bytes[4] ^= 1
        #expect(failed(appraise(bytes, kernel.values)) == [.templateHashes])
    }

    @Test("an entry of another register is refused: it is in no replay")
    func registers() throws {
        var kernel = machine()
        kernel.list.append(
            "ima-ng",
            fields: [IMAListWriter.field(Self.digest("x")), Array("/x".utf8) + [0]], pcr: 11)
        kernel.run("/bin/sh", "sh")
        #expect(failed(appraise(kernel.list.bytes, kernel.values)).contains(.registers))
    }

    @Test("violations extend ones, and are refused unless the policy accepts them")
    func violations() throws {
        var kernel = machine()
        kernel.extend(kernel.list.violation("/usr/bin/engine"))
        let refusing = appraise(kernel.list.bytes, kernel.values, policy: try Self.policy())
        #expect(failed(refusing) == [.violations])
        let accepting = try Self.policy(#", "violations": "accept""#)
        let accepted = appraise(kernel.list.bytes, kernel.values, policy: accepting)
        #expect(failed(accepted) == [] && accepted.facts.violations == 1)
        // An entry that is only called a violation.
        var hidden = machine()
        let record = hidden.list.violation("/tmp/x")
        hidden.run("/bin/sh", "sh")
        #expect(!record.bytes.isEmpty)
        #expect(
            failed(appraise(hidden.list.bytes, hidden.values, policy: accepting))
                .contains(.explainsPCR))
    }

    @Test("banks with padded SHA-1 are named, and refused unless the policy accepts them")
    func padded() throws {
        var kernel = Kernel(padded: true)
        kernel.run("/bin/sh", "sh")
        kernel.run("/usr/bin/engine", "engine")
        kernel.extend(kernel.list.violation("/x"))
        let rules = #", "violations": "accept""#
        let refused = appraise(kernel.list.bytes, kernel.values, policy: try Self.policy(rules))
        #expect(failed(refused) == [.bankHashes])
        #expect(refused.facts.banks["sha256"] == "sha1-padded")
        let accepted = try Self.policy(rules + #", "sha1": "accept""#)
        #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: accepted)) == [])
    }

    @Test("boot_aggregate is over PCR 0 to 9, or 0 to 7, of the values beside it")
    func bootAggregate() throws {
        for (bank, last) in [(HashAlgorithm.sha256, UInt8(9)), (.sha256, 7), (.sha384, 9)] {
            let kernel = Kernel(aggregate: bank, through: last)
            let appraisal = appraise(kernel.list.bytes, kernel.values)
            #expect(failed(appraisal) == [])
            #expect(appraisal.facts.bootAggregate == "\(bank.name):0-\(last)")
        }
        // The list of another boot of the machine; the registers of a boot that are not quoted.
        let kernel = machine()
        var other = kernel.values
        other[.sha256, PCRIndex.all[4]]?[0] ^= 1
        #expect(failed(appraise(kernel.list.bytes, other)) == [.bootAggregate])
        for index in [0, 8] {
            var missing = kernel.values
            missing[.sha256, PCRIndex.all[index]] = nil
            #expect(failed(appraise(kernel.list.bytes, missing)) == [.bootAggregate])
        }
        let sha1 = Kernel(aggregate: .sha1)
        #expect(failed(appraise(sha1.list.bytes, sha1.values)) == [.bootAggregate])
        let unchecked = try Self.policy(#", "bootAggregate": "unchecked""#)
        #expect(
            !failed(appraise(sha1.list.bytes, sha1.values, policy: unchecked))
                .contains(.bootAggregate))
        // No TPM when the kernel began, and a list that begins with something else.
        var none = Kernel()
        none.list = IMAListWriter()
        none.values[.sha256, PCRIndex.all[10]] = [UInt8](repeating: 0, count: 32)
        none.values[.sha384, PCRIndex.all[10]] = [UInt8](repeating: 0, count: 48)
        var first = none
        none.extend(
            none.list.measure(
                "boot_aggregate",
                digest: IMAEntry.Digest(
                    kind: "ima", algorithm: "sha256", bytes: [UInt8](repeating: 0, count: 32))))
        #expect(failed(appraise(none.list.bytes, none.values)) == [.bootAggregate])
        first.run("/bin/sh", "sh")
        #expect(failed(appraise(first.list.bytes, first.values)) == [.bootAggregate])
    }

    @Test("a kernel that another one started adds the same boot_aggregate, and no other")
    func kexec() throws {
        var kernel = machine()
        let values = kernel.values
        kernel.extend(kernel.list.bootAggregate(of: values, bank: .sha256, through: 9))
        let appraisal = appraise(kernel.list.bytes, kernel.values)
        #expect(failed(appraisal) == [] && appraisal.facts.laterKernels == 1)
        kernel.extend(kernel.list.bootAggregate(of: values, bank: .sha256, through: 3))
        #expect(failed(appraise(kernel.list.bytes, kernel.values)) == [.bootAggregate])
    }

    @Test("an appraisal goes on where the last one of the boot ended")
    func incremental() throws {
        let policy = try Self.policy()
        var kernel = machine()
        let state = try #require(
            appraise(kernel.list.bytes, kernel.values, policy: policy).state)
        let kept = try IMAState(parsing: state.encoded())
        #expect(kept == state && state.entries == 3)
        // Nothing new.
        #expect(failed(appraise([], kernel.values, policy: policy, state: kept)) == [])
        let before = kernel.list.bytes.count
        kernel.run("/bin/sh", "sh")
        let rest = Array(kernel.list.bytes[before...])
        let next = appraise(rest, kernel.values, policy: policy, state: kept)
        #expect(failed(next) == [] && next.facts.proven == 4 && next.state?.entries == 4)
        #expect(next.facts.required.count == 1)
        // Another boot, no boot, another policy, the whole list again, too little of it.
        for boot in [
            BootInstance(resetCount: 4, restartCount: 0),
            BootInstance(resetCount: 3, restartCount: 1), nil,
        ] {
            let other = appraise(rest, kernel.values, policy: policy, state: kept, boot: boot)
            #expect(failed(other) == [.sameBoot])
        }
        let accepting = try Self.policy(#", "others": "accept""#)
        #expect(
            failed(appraise(rest, kernel.values, policy: accepting, state: kept)) == [.sameBoot])
        #expect(failed(appraise(rest, kernel.values, state: kept)).contains(.sameBoot))
        #expect(
            failed(appraise(kernel.list.bytes, kernel.values, policy: policy, state: kept))
                .contains(.explainsPCR))
        #expect(
            failed(appraise([], kernel.values, policy: policy, state: kept))
                .contains(.explainsPCR))
        // Registers of the boot that changed under it.
        var other = kernel.values
        other[.sha256, PCRIndex.all[0]]?[0] ^= 1
        #expect(failed(appraise(rest, other, policy: policy, state: kept)) == [.bootAggregate])
        // What was refused leaves no state.
        kernel.run("/tmp/x", "x")
        #expect(
            appraise(kernel.list.bytes, kernel.values, policy: policy).state == nil)
        #expect(throws: EvidenceFormatError.self) { try IMAState(parsing: [0x7B, 0x7D]) }
    }

    @Test("what no rule speaks of is refused; deny goes before allow")
    func rules() throws {
        var kernel = machine()
        kernel.run("/opt/other", "other")
        #expect(
            failed(appraise(kernel.list.bytes, kernel.values, policy: try Self.policy()))
                == [.files])
        let open = try Self.policy(#", "others": "accept""#)
        #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: open)) == [])
        for denied in ["other", "engine"] {
            let rules = try Self.policy(
                #", "others": "accept", "deny": ["\#(Self.digest(denied).text)"]"#)
            #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: rules)) == [.files])
        }
        // A tree's root is not a content's digest.
        var verity = machine()
        var digest = Self.digest("sh")
        digest = IMAEntry.Digest(kind: "verity", algorithm: "sha256", bytes: digest.bytes)
        verity.extend(
            verity.list.append(
                "ima-ngv2", fields: [IMAListWriter.field(digest), Array("/bin/sh".utf8) + [0]]))
        #expect(
            failed(appraise(verity.list.bytes, verity.values, policy: try Self.policy()))
                == [.files])
    }

    @Test("R38: another template, which nothing hashes, takes no entry out of the rule of its path")
    func templates() throws {
        let open = try Self.policy(#", "others": "accept""#)
        func fields(_ content: String, _ more: [[UInt8]]) -> [[UInt8]] {
            [IMAListWriter.field(Self.digest(content)), Array("/usr/bin/engine".utf8) + [0]] + more
        }
        // As the kernel recorded it, with a signature; and as its owner then writes it.
        for template in ["ima-sig", "ima-buf", "d-ng|n-ng|sig", "d-ng|n-ng|buf"] {
            for (content, refused) in [("engine", []), ("modified", [.files])]
                as [(String, Set<IMACheck>)]
            {
                var kernel = machine()
                kernel.extend(kernel.list.append(template, fields: fields(content, [[1, 2]])))
                #expect(
                    failed(appraise(kernel.list.bytes, kernel.values, policy: open)) == refused,
                    "\(template)")
            }
        }
        // The signature is the owner's, who may call it a name or a digest.
        for (template, signature) in [
            ("d-ng|n-ng|n-ng", Array("/tmp/x".utf8) + [0]),
            ("sig|n-ng|d-ng", IMAListWriter.field(Self.digest("engine"))),
        ] as [(String, [UInt8])] {
            var kernel = machine()
            kernel.extend(kernel.list.append(template, fields: fields("modified", [signature])))
            #expect(
                failed(appraise(kernel.list.bytes, kernel.values, policy: open))
                    .contains(.wellFormed))
        }
        // Nor is there a second kind of boot_aggregate.
        var kernel = machine()
        kernel.extend(
            kernel.list.append(
                "ima-buf",
                fields: [
                    IMAListWriter.field(Self.digest("other")), Array("boot_aggregate".utf8) + [0],
                    [],
                ]))
        #expect(
            failed(appraise(kernel.list.bytes, kernel.values, policy: open)) == [.bootAggregate])
    }

    @Test("a buffer has the digest that the policy has for its name")
    func buffers() throws {
        let rules = try Self.policy(
            #", "buffers": {"kexec-cmdline": ["\#(Self.digest("quiet").text)"]}"#)
        for (content, refused) in [("quiet", []), ("debug", [.files])]
            as [(String, Set<IMACheck>)]
        {
            var kernel = machine()
            kernel.extend(
                kernel.list.append(
                    "ima-buf",
                    fields: [
                        IMAListWriter.field(Self.digest(content)),
                        Array("kexec-cmdline".utf8) + [0], Array(content.utf8),
                    ]))
            #expect(
                failed(appraise(kernel.list.bytes, kernel.values, policy: rules)) == refused)
        }
    }

    @Test("names are compared as bytes, not as text that looks the same")
    func names() throws {
        let rules = """
            { "version": 1, "files": { "/bin/\u{e9}": ["\(Self.digest("e").text)"] } }
            """
        var kernel = Kernel()
        kernel.run("/bin/e\u{301}", "e")
        let policy = try IMAPolicy(Array(rules.utf8))
        #expect(failed(appraise(kernel.list.bytes, kernel.values, policy: policy)) == [.files])
    }

    @Test("a policy that cannot be meant so is refused")
    func policies() {
        let digest = Self.digest("x").text
        let wrong = [
            "", "[]", "{}", #"{"version": 2}"#, #"{"version": 1, "allow": {}}"#,
            #"{"version": 1, "others": "ignore"}"#, #"{"version": 1, "require": ["/x"]}"#,
            #"{"version": 1, "files": {"/x": []}}"#, #"{"version": 1, "files": {"/x": ["12"]}}"#,
            #"{"version": 1, "files": {"/x": ["sha256:12"]}}"#,
            #"{"version": 1, "files": {"/x": "\#(digest)"}}"#,
            #"{"version": 1, "deny": ["sha1:\#(String(repeating: "0", count: 40))"]}"#,
            #"{"version": 1, "deny": ["ima:\#(digest)"]}"#,
            #"{"version": 1, "version": 1}"#,
            #"{"version": 1, "others": "refuse", "other\u0073": "accept"}"#,
            #"{"version": 1, "files": {"/x": ["\#(digest)"], "/x": ["\#(digest)"]}}"#,
            // One text, two paths.
            "{\"version\": 1, \"files\": {\"/\u{e9}\": [\"\(digest)\"], \"/e\u{301}\": [\"\(digest)\"]}}",
            #"{"version": 1, "files": {"x": ["\#(digest)"]}, "buffers": {"x": ["\#(digest)"]}}"#,
        ]
        for text in wrong {
            #expect(throws: PolicyFormatError.self, "\(text)") {
                try IMAPolicy(Array(text.utf8))
            }
        }
    }

    @Test("what stands twice in one object alone is refused, and only in UTF-8 is it looked for")
    func members() throws {
        let digest = Self.digest("x").text
        let good = [
            #"{"version": 1, "files": {"/x": ["\#(digest)"], "/\"x": ["\#(digest)"]}, "require": ["/x", "/x"]}"#,
            #"{"version": 1, "files": {"files": ["\#(digest)"], "version": ["\#(digest)"]}}"#,
            #"{"version": 1, "files": {"/a{\"b\":\"": ["\#(digest)"], "b": ["\#(digest)"]}}"#,
        ]
        for text in good {
            #expect(throws: Never.self, "\(text)") { try IMAPolicy(Array(text.utf8)) }
            let wide = try #require(text.data(using: .utf16))
            #expect(throws: PolicyFormatError.self) { try IMAPolicy([UInt8](wide)) }
        }
    }

    @Test("a recorded list replays to what its template hashes extend")
    func recording() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../../shared/recordings/ima/ascii_runtime_measurements")
        guard let data = try? Data(contentsOf: file) else { return }
        // Replayed from the logged hashes, which the appraisal does not use.
        var register = [UInt8](repeating: 0, count: 20)
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            let digest = try #require(bytes(hexadecimal: String(words[1])))
            register = HashAlgorithm.sha1.digest(register, digest)
        }
        var values = PCRValues()
        values[.sha1, PCRIndex.all[10]] = register
        let appraisal = appraise([UInt8](data), values)
        #expect(appraisal.facts.proven == 826)
        // A SHA-1 bank, and a kernel that found no TPM.
        #expect(failed(appraisal) == [.bankHashes, .bootAggregate])
    }
}

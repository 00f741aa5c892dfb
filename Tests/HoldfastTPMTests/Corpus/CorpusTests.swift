import Foundation
import HoldfastAttestation
import HoldfastCrypto
import HoldfastFuzz
import HoldfastProtocol
import HoldfastTPMWire
import Testing

/// Programs that share no code with us judge the same quotes and event logs.
///
/// What differs has a name and a reason in docs/corpus.md; anything else is a failure. `make corpus`
/// runs all of it, the ordinary tests a part.
@Suite("corpus", .timeLimit(.minutes(20)))
struct CorpusTests {
    /// Set by `make corpus`: the Python that has tpm2-pytss.
    private static let python = ProcessInfo.processInfo.environment["HOLDFAST_CORPUS_PYTHON"]
    private static let seed =
        ProcessInfo.processInfo.environment["HOLDFAST_CORPUS_SEED"].flatMap { UInt64($0) } ?? 1
    private static var isWhole: Bool { python != nil }

    private enum Judgement: Equatable {
        case accepts
        case refuses
        /// By a signal.
        case crashes
    }

    private let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(
            path: "holdfast-corpus-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func write(_ bytes: [UInt8], _ name: String) throws {
        try Data(bytes).write(to: folder.appending(path: name))
    }

    /// Runs a program in the folder, with standard input and output in files.
    private func start(_ program: String, _ arguments: [String], in input: String?, out: String)
        throws -> Process
    {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        process.currentDirectoryURL = folder
        if let input {
            process.standardInput = try FileHandle(
                forReadingFrom: folder.appending(path: input))
        }
        let path = folder.appending(path: out)
        _ = FileManager.default.createFile(atPath: path.path(), contents: nil)
        process.standardOutput = try FileHandle(forWritingTo: path)
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    /// Runs commands, one for each case, in two shells.
    ///
    /// - Returns: exit statuses in the order of the commands.
    private func statuses(of commands: [String]) throws -> [Int] {
        let half = (commands.count + 1) / 2
        var shells: [(process: Process, out: String)] = []
        for (number, part) in [commands[..<half], commands[half...]].enumerated() {
            let script = part.map { $0 + "; echo $?" }.joined(separator: "\n")
            try write(Array(("exec 2>/dev/null\n" + script + "\n").utf8), "script\(number)")
            let process = try start(
                "/bin/bash", ["script\(number)"], in: nil, out: "statuses\(number)")
            shells.append((process, "statuses\(number)"))
        }
        return try shells.flatMap { process, out in
            process.waitUntilExit()
            let text = try String(contentsOf: folder.appending(path: out), encoding: .utf8)
            return text.split(separator: "\n").compactMap { Int($0) }
        }
    }

    // MARK: quotes

    /// Our verdict; `nil` when the files cannot be read.
    private func appraise(_ one: QuoteCase) -> QuoteAppraisal? {
        let selection = PCRSelection(text: one.selection) ?? .empty
        guard let key = try? EvidenceFiles.key(one.publicArea),
            let values = try? EvidenceFiles.pcrValues(one.values, of: selection)
        else { return nil }
        return QuoteAppraisal(
            UnverifiedQuote(
                attestation: EvidenceFiles.attestation(one.message), signature: one.signature,
                values: values),
            expecting: QuoteExpectation(
                key: key, nonce: one.nonce, minimumNonceSize: 16, selection: selection,
                qualifiedSigner: nil))
    }

    /// The checks that we refuse a quote for.
    private func failures(_ one: QuoteCase) -> Set<QuoteCheck> {
        guard let appraisal = appraise(one) else { return [.wellFormed] }
        let failed = appraisal.results.filter { $0.outcome == .failed }.map(\.check)
        #expect((appraisal.verified == nil) == !failed.isEmpty)
        return Set(failed)
    }

    private func checkQuote(_ cases: [QuoteCase]) throws -> [Judgement] {
        var commands: [String] = []
        for (number, one) in cases.enumerated() {
            var area = WireWriter()
            area.sized(one.publicArea)
            for (bytes, name) in [
                (area.bytes, "public"), (one.message, "message"), (one.signature, "signature"),
                (one.values, "values"),
            ] {
                try write(bytes, "\(number).\(name)")
            }
            commands.append(
                "tpm2_checkquote -u \(number).public -m \(number).message -s \(number).signature "
                    + "-f \(number).values -g \(one.hash) -q \(Hex.encode(one.nonce)) >/dev/null")
        }
        let statuses = try statuses(of: commands)
        try #require(statuses.count == cases.count)
        return statuses.map { $0 == 0 ? .accepts : $0 >= 128 ? .crashes : .refuses }
    }

    /// Has a script of Tests/Oracle judge cases.
    ///
    /// - Returns: for each the words behind its number: `accept` or `refuse`, and more.
    private func ask(
        _ script: String, _ python: String, _ cases: [[String: String]]
    ) throws -> [[Substring]] {
        let lines = try cases.enumerated().map { number, one in
            String(
                decoding: try JSONSerialization.data(
                    withJSONObject: one.merging(["id": "\(number)"]) { one, _ in one }),
                as: UTF8.self)
        }
        try write(Array((lines.joined(separator: "\n") + "\n").utf8), "cases")
        let script = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Oracle/\(script)").path()
        let process = try start(python, [script], in: "cases", out: "judged")
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        let text = try String(contentsOf: folder.appending(path: "judged"), encoding: .utf8)
        let judged = text.split(separator: "\n").map { $0.split(separator: " ") }
        try #require(judged.map { String($0[0]) } == (0..<cases.count).map(String.init))
        return judged.map { Array($0.dropFirst()) }
    }

    private func pytss(_ cases: [QuoteCase], _ python: String) throws -> [Judgement] {
        let objects = cases.map { one in
            [
                "public": Hex.encode(one.publicArea), "message": Hex.encode(one.message),
                "signature": Hex.encode(one.signature), "nonce": Hex.encode(one.nonce),
                "values": Hex.encode(one.values), "selection": one.selection,
            ]
        }
        return try ask("judge_quotes.py", python, objects).map {
            $0.first == "accept" ? .accepts : .refuses
        }
    }

    /// What tpm2_checkquote 5.4 accepts, by what was done; docs/corpus.md says why.
    private static let quotesAccepted = [
        "values-longer": "bytes behind the end", "signature-longer": "bytes behind the end",
        "signed-longer": "bytes behind the end", "signed-sha1": "SHA-1",
        "signed-magic": "magic", "signed-bank-twice": "a bank twice",
        // The key in other words: the same numbers, and another padding.
        "signature-scheme": "the scheme is not compared",
        "key-other": "the scheme is not compared",
    ]
    /// What tpm2_eventlog 5.4 replays, by what was done.
    private static let logsAccepted = [
        "header-signature": "the header is not compared",
        "header-size": "the header is not compared",
        "digest-undeclared": "the header is not compared",
        "event-not-extended": "extends EV_NO_ACTION",
    ]

    /// Checks that tpm2_checkquote 5.4 does not make; docs/corpus.md says why we make them.
    private static let notMade: Set<QuoteCheck> = [
        .keyAttributes, .nonceSize, .selection, .bootPCRs, .valuesExact, .measured,
    ]

    @Test("tpm2_checkquote and tpm2-pytss judge quotes as we do, but for what is explained")
    func quotes() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let tpm = try TestTPM()
        let (good, bad) = Self.isWhole ? (240, 2_400) : (24, 120)
        let cases = try QuoteCorpus(
            good: good, bad: bad, seed: Self.seed, tpm: tpm.connection
        ).cases
        let ours = cases.map(failures)
        let tools = try checkQuote(cases)
        let others = try Self.python.map { try pytss(cases, $0) }
        var classes: [String: Int] = [:]
        for (number, one) in cases.enumerated() {
            let name = "case \(number), \(one.kind), seed \(Self.seed)"
            #expect(ours[number].isEmpty == one.isGood, "\(name): \(ours[number])")
            // tpm2-pytss with the rules written down once more: no difference is explained.
            if let others {
                #expect((others[number] == .accepts) == one.isGood, "\(name): tpm2-pytss")
            }
            guard (tools[number] == .accepts) != one.isGood else { continue }
            let explanation: String? =
                if one.isGood, one.isPSS, tools[number] == .refuses {
                    "no RSAPSS"
                } else if !one.isGood, ours[number].isSubset(of: Self.notMade) {
                    "does not check: "
                        + ours[number].map(\.rawValue).sorted().joined(separator: ", ")
                } else {
                    one.isGood ? nil : Self.quotesAccepted[one.kind]
                }
            #expect(
                explanation != nil,
                "\(name): tpm2_checkquote \(tools[number]), and we refuse for \(ours[number])")
            classes[explanation ?? "unexplained", default: 0] += 1
        }
        report("tpm2_checkquote", cases.filter(\.isGood).count, cases.count, classes)
    }

    // MARK: attestation results

    @Test("PyJWT reads attestation results as we mean them, and nothing that somebody changed")
    func results() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let python = Self.python else { return }
        let tpm = try TestTPM()
        let key = ECPrivateKey(curve: .p256, random: .system)
        let other = ECPrivateKey(curve: .p256, random: .system).publicKey
        var cases: [[String: String]] = []
        var expected: [String] = []
        func add(_ token: String, _ nonce: [UInt8], by signer: ECPublicKey, _ outcome: String) {
            cases.append(["token": token, "pem": signer.pem, "nonce": Hex.encode(nonce)])
            expected.append(outcome)
        }
        let quotes = try QuoteCorpus(good: 24, bad: 24, seed: Self.seed, tpm: tpm.connection).cases
        for (number, one) in quotes.enumerated() {
            guard let quote = appraise(one) else { continue }
            var demanded: AttestationResult.DemandedPolicy?
            var verdict = Verdict(quote)
            if let values = quote.verified?.values.values, number % 3 != 0 {
                var policy = AppraisalPolicy(
                    id: "boot", version: 1, model: "gateway", onDrift: .flag, references: [:],
                    unchecked: [], require: [:], revoked: [], authorities: nil, firmware: [],
                    imaPolicy: nil, issuedAt: 1)
                policy.references = values.mapValues { [$0] }
                if number % 3 == 1, let register = values.keys.min() {
                    policy.references[register] = [
                        [UInt8](repeating: 1, count: register.hash.digestSize)
                    ]
                }
                let appraisal = PolicyAppraisal(
                    .ownFile(policy), of: quote.verified, log: nil, list: nil)
                verdict = verdict.and(Verdict(appraisal))
                demanded = .init(policy, appraisal)
            }
            let result = AttestationResult(
                verdict, quote: quote, policy: demanded, nonce: one.nonce)
            let token = try result.token(signedBy: key, issuedAt: 1_700_000_000)
            add(token, one.nonce, by: key.publicKey, "accept " + result.status.rawValue)
            add(token, one.nonce, by: other, "refuse")
            add(token, one.nonce + [1], by: key.publicKey, "refuse")
            let parts = token.split(separator: ".").map(String.init)
            for place in parts.indices {
                var bytes = try Base64URL.decode(parts[place])
                bytes[bytes.count / 2] ^= 1
                var changed = parts
                changed[place] = Base64URL.encode(bytes)
                add(changed.joined(separator: "."), one.nonce, by: key.publicKey, "refuse")
            }
            let none = Base64URL.encode(Array(#"{"alg":"none"}"#.utf8))
            add("\(none).\(parts[1]).", one.nonce, by: key.publicKey, "refuse")
        }
        let judged = try ask("judge_results.py", python, cases)
        for (number, words) in judged.enumerated() {
            let told = words.prefix(expected[number] == "refuse" ? 1 : 2).joined(separator: " ")
            #expect(told == expected[number], "case \(number), seed \(Self.seed): \(words)")
        }
        let statuses = Set(expected)
        #expect(
            statuses.isSuperset(
                of: ["refuse", "accept none", "accept warning", "accept contraindicated"]))
        #expect(statuses.contains("accept affirming"))
        report("PyJWT", quotes.count, cases.count, [:])
    }

    // MARK: tokens

    /// A token with one change, and what it is.
    private func changed(_ token: PASETOToken) throws -> [String: PASETOToken] {
        var changes: [String: PASETOToken] = [:]
        for (place, name) in [
            (0, "the first byte"), (token.body.count - 65, "what is before the end"),
            (token.body.count - 64, "the signature"), (token.body.count - 1, "the last byte"),
        ] where place >= 0 {
            var body = token.body
            body[place] ^= 1
            changes[name] = try PASETOToken(
                purpose: token.purpose, body: body, footer: token.footer)
        }
        changes["a byte more"] = try PASETOToken(
            purpose: token.purpose, body: token.body + [0], footer: token.footer)
        changes["the purpose"] = try PASETOToken(
            purpose: token.purpose == .v4Public ? .v4Local : .v4Public, body: token.body,
            footer: token.footer)
        changes["a footer"] = try PASETOToken(
            purpose: token.purpose, body: token.body, footer: token.footer + [0x30])
        if !token.footer.isEmpty {
            changes["no footer"] = try PASETOToken(
                purpose: token.purpose, body: token.body, footer: [])
        }
        return changes
    }

    @Test("pyseto reads our tokens of every kind, we read its, and neither reads what was changed")
    func tokens() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let samples = try SampleToken.all()
        #expect(Set(samples.compactMap(\.kind)) == Set(TokenKind.allCases))
        var cases: [[String: String]] = []
        var expected: [(name: String, sample: SampleToken, token: PASETOToken, isGood: Bool)] = []
        func add(
            _ sample: SampleToken, _ token: PASETOToken, _ name: String, isGood: Bool = false,
            key: [UInt8]? = nil, about: [UInt8]? = nil, device: [UInt8]? = nil, again: Bool = true
        ) {
            let kind = sample.kind?.rawValue ?? ""
            cases.append([
                "kind": kind, "token": token.text, "key": Hex.encode(key ?? sample.key),
                "about": Hex.encode(about ?? sample.about), "suffix": Hex.encode(sample.suffix),
                "name": Hex.encode(device ?? sample.attestationKey),
                "purpose": sample.token.purpose == .v4Local ? "local" : "public",
                "again": again ? "yes" : "no",
            ])
            expected.append((kind + ": " + name, sample, token, isGood))
        }
        for sample in samples {
            #expect(throws: Never.self) { try sample.read(sample.token) }
            add(sample, sample.token, "as it is", isGood: true)
            add(sample, sample.token, "with another nonce", isGood: true, again: false)
            for (name, token) in try changed(sample.token).sorted(by: { $0.key < $1.key }) {
                add(sample, token, name)
                #expect(throws: (any Error).self, "\(name)") { try sample.read(token) }
            }
            var other = sample.key
            other[0] ^= 1
            add(sample, sample.token, "another key", key: other)
            guard !sample.about.isEmpty else { continue }
            other = sample.about
            other[3] ^= 3
            add(sample, sample.token, "of another license or enrollment", about: other)
            other = sample.attestationKey
            other[5] ^= 1
            add(sample, sample.token, "of another device", device: other)
        }
        guard let python = Self.python else { return }
        for (one, words) in zip(expected, try ask("judge_tokens.py", python, cases)) {
            #expect((words.first == "accept") == one.isGood, "\(one.name): \(words)")
            guard one.isGood, words.count == 2 else { continue }
            let made = try PASETOToken(parsing: String(words[1]))
            #expect(throws: Never.self, "\(one.name)") { try one.sample.read(made) }
            // Signatures have no choice; encryption has the nonce.
            let isSame = one.token.purpose == .v4Public || one.name.hasSuffix("as it is")
            #expect((made == one.token) == isSame, "\(one.name)")
            for (name, token) in try changed(made) {
                #expect(throws: (any Error).self, "\(one.name), \(name)") {
                    try one.sample.read(token)
                }
            }
        }
        report("pyseto", expected.count { $0.isGood }, expected.count, [:])
    }

    // MARK: event logs

    /// What `tpm2_eventlog` replays: the lines below `pcrs:`.
    private func replayed(_ text: String) -> [HashAlgorithm: [PCRIndex: [UInt8]]] {
        var values: [HashAlgorithm: [PCRIndex: [UInt8]]] = [:]
        var bank: HashAlgorithm?
        guard let part = text.range(of: "\npcrs:\n") else { return [:] }
        for line in text[part.upperBound...].split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == ":" }
            if words.count == 1 {
                bank = HashAlgorithm.allCases.first { $0.name == words[0] }
            } else if words.count == 2, let bank, let number = UInt8(words[0]),
                let index = PCRIndex(rawValue: number),
                let value = try? Hex.decode(variableTime: String(words[1].dropFirst(2)))
            {
                values[bank, default: [:]][index] = value
            }
        }
        return values
    }

    @Test("tpm2_eventlog replays logs as we do, but for what is explained")
    func logs() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let (good, bad) = Self.isWhole ? (100, 600) : (12, 60)
        let cases = LogCorpus(good: good, bad: bad, seed: Self.seed).cases
        for (number, one) in cases.enumerated() { try write(one.log, "\(number).log") }
        let statuses = try statuses(
            of: cases.indices.map { "tpm2_eventlog \($0).log >\($0).yaml" })
        try #require(statuses.count == cases.count)
        var classes: [String: Int] = [:]
        for (number, one) in cases.enumerated() {
            let name = "case \(number), \(one.kind), seed \(Self.seed)"
            var values = PCRValues()
            for (bank, registers) in one.values {
                for (index, value) in registers { values[bank, index] = value }
            }
            let appraisal = EventLogAppraisal(
                one.log, userspace: nil, explaining: values, revocations: nil)
            #expect(appraisal.refusals.isEmpty == one.isGood, "\(name): \(appraisal.refusals)")
            let text =
                (try? String(contentsOf: folder.appending(path: "\(number).yaml"), encoding: .utf8))
                ?? ""
            let theirs = replayed(text)
            let isExplained =
                statuses[number] == 0
                && one.values.allSatisfy { bank, registers in
                    registers.allSatisfy { theirs[bank]?[$0.key] == $0.value }
                }
            guard isExplained != one.isGood else { continue }
            // Without an explanation: a good one that is refused, a bad one that is accepted, and
            // anything that ends by a signal.
            let explanation: String? =
                if one.isGood, one.kind == "boot-locality", statuses[number] == 0 {
                    "no startup locality"
                } else {
                    one.isGood ? nil : Self.logsAccepted[one.kind]
                }
            #expect(
                explanation != nil,
                "\(name): tpm2_eventlog ended with \(statuses[number]), we refuse for \(appraisal.refusals.map(\.reason))"
            )
            classes[explanation ?? "unexplained", default: 0] += 1
        }
        report("tpm2_eventlog", cases.filter(\.isGood).count, cases.count, classes)
    }

    /// For whoever reads the run of `make corpus`.
    private func report(_ oracle: String, _ good: Int, _ all: Int, _ classes: [String: Int]) {
        guard Self.isWhole else { return }
        var lines = ["corpus: \(oracle): \(good) good, \(all - good) bad"]
        lines += classes.sorted { $0.key < $1.key }.map { "corpus:     \($0.value) \($0.key)" }
        FileHandle.standardError.write(Data((lines.joined(separator: "\n") + "\n").utf8))
    }
}

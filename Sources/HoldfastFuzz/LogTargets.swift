import FoundationEssentials
import HoldfastAttestation
import HoldfastCrypto
import HoldfastTPMWire

let logTargets: [FuzzTarget] = [
    eventLog, imaList, imaState, systemdLog, revokedImages, pcrValues, recording,
]

// MARK: Boot event logs

/// UCS-2, as firmware writes names.
private func wide(_ text: String) -> [UInt8] { text.utf8.flatMap { [$0, 0] } }

private func little(_ value: Int, _ size: Int) -> [UInt8] {
    (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

/// `UEFI_VARIABLE_DATA`.
private func variable(_ vendor: [UInt8], _ name: String, _ data: [UInt8]) -> [UInt8] {
    vendor + little(name.utf8.count, 8) + little(data.count, 8) + wide(name) + data
}

private let global: [UInt8] = [
    0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B, 0x8C,
]
private let imageSecurity: [UInt8] = [
    0xCB, 0xB2, 0x19, 0xD7, 0x3A, 0x3D, 0x96, 0x45, 0xA3, 0xBC, 0xDA, 0xD0, 0x0E, 0x67, 0x65, 0x6F,
]
private let sha256Type: [UInt8] = [
    0x26, 0x16, 0xC4, 0xC1, 0x4C, 0x50, 0x92, 0x40, 0xAC, 0xA9, 0x41, 0xF9, 0x36, 0x93, 0x43, 0x28,
]

/// `EFI_SIGNATURE_LIST` with one hash.
private func signatureList(_ hash: [UInt8]) -> [UInt8] {
    sha256Type + little(28 + 16 + hash.count, 4) + little(0, 4) + little(16 + hash.count, 4)
        + [UInt8](repeating: 0, count: 16) + hash
}

/// A boot in small: the kinds of events that the facts are read from.
private func bootLog(_ writer: EventLogWriter) -> [UInt8] {
    var writer = writer
    func measure(_ data: [UInt8], _ type: UInt32, _ pcr: Int) {
        writer.measure(data, as: EventType(rawValue: type), into: PCRIndex.all[pcr])
    }
    measure([1, 0, 0, 0], 0x8, 0)
    measure(variable(global, "SecureBoot", [1]), 0x8000_0001, 7)
    measure(variable(global, "PK", signatureList(HashAlgorithm.sha256.digest([1]))), 0x8000_0001, 7)
    measure(
        variable(imageSecurity, "dbx", signatureList(HashAlgorithm.sha256.digest([2]))),
        0x8000_0001, 7)
    for pcr in 0..<8 { measure([0, 0, 0, 0], 0x4, pcr) }
    let path = [4, 4] + little(4 + 12, 2) + wide("\\a.efi") + [0x7F, 0xFF, 4, 0]
    measure(
        little(0x1000, 8) + little(64, 8) + little(0, 8) + little(path.count, 8) + path,
        0x8000_0003, 4)
    measure(Array("Exit Boot Services Invocation".utf8), 0x8000_0007, 5)
    measure(wide(".linux") + [0, 0], 0xD, 11)
    measure(Array("kernel_cmdline: root=/dev/sda1 quiet".utf8) + [0], 0xD, 8)
    measure(wide("root=/dev/sda1") + [0, 0], 0xD, 12)
    return writer.bytes
}

private let eventLog = FuzzTarget(
    "event-log", maximumSize: 8192, accepted: 3,
    seeds: {
        [
            bootLog(EventLogWriter(algorithms: [.sha1, .sha256])),
            bootLog(EventLogWriter(algorithms: [.sha384])), bootLog(.sha1Only()),
        ]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        let appraisal = EventLogAppraisal(
            bytes, userspace: nil, explaining: sample.values,
            revocations: try? RevokedImages(signatureList(HashAlgorithm.sha256.digest([2]))))
        _ = appraisal.facts?.text
        _ = appraisal.timelineText
        let log: EventLog
        do throws(EventLogError) { log = try EventLog(parsing: bytes) } catch { return false }
        // Written again from what was read it is the same, but for what pads it.
        var writer = log.header.map { EventLogWriter(header: $0) } ?? .sha1Only()
        for event in log.events.dropFirst(log.header == nil ? 0 : 1) {
            writer.append(
                pcr: event.pcr, type: event.type, digests: event.digests,
                data: [UInt8](event.untrustedData))
        }
        let whole = bytes.count - log.padding
        if log.header != nil {
            // The header event's own digest says nothing, and nobody compares it.
            let start = 32 + log.events[0].untrustedData.count
            try demand(
                writer.bytes.dropFirst(start).elementsEqual(bytes[start..<whole]),
                "the events are written in other bytes")
        } else {
            try demand(writer.bytes.elementsEqual(bytes[..<whole]), "the log changed")
        }
        if let banks = try? log.replay() {
            for (bank, values) in banks {
                try demand(
                    try log.replay(bank) == values, "a bank replays otherwise by itself")
            }
        }
        return true
    })

// MARK: IMA

private func imaSeeds() throws -> [[UInt8]] {
    let sample = try Sample.shared.get()
    var writer = IMAListWriter()
    writer.bootAggregate(of: sample.values, bank: .sha256, through: 9)
    writer.measure(
        "/usr/bin/true",
        digest: .init(kind: "ima", algorithm: "sha256", bytes: [UInt8](repeating: 5, count: 32)))
    writer.violation("/var/log/x")
    writer.append(
        "ima-sigv2",
        fields: [
            IMAListWriter.field(
                .init(
                    kind: "verity", algorithm: "sha256",
                    bytes: [UInt8](repeating: 6, count: 32))), Array("/a b".utf8) + [0], [3, 2, 1],
        ])
    writer.append("ima", fields: [[UInt8](repeating: 7, count: 20), Array("/old".utf8)])
    let digest = hexadecimal([UInt8](repeating: 5, count: 32))
    let template = hexadecimal([UInt8](repeating: 1, count: 20))
    let text = """
        10 \(template) ima-ng sha256:\(digest) boot_aggregate
        10 \(template) ima-ng sha256:\(digest) /usr/bin/true
        10 \(template) ima-sig sha256:\(digest) /usr/bin/a b 030204
        10 \(template) ima \(template) /old\n
        """
    return [writer.bytes, Array(text.utf8)]
}

/// What the entries of a list are, or that it is refused.
private func entries(_ bytes: [UInt8], parts: Int) -> [IMAEntry]? {
    var parser = IMAListParser()
    var found: [IMAEntry] = []
    do throws(IMAError) {
        for part in 0...parts {
            if part == parts {
                parser.end()
            } else {
                let from = bytes.count * part / parts
                parser.append([UInt8](bytes[from..<(bytes.count * (part + 1) / parts)]))
            }
            while let entry = try parser.next() { found.append(entry) }
        }
    } catch {
        return nil
    }
    return found
}

private let imaList = FuzzTarget(
    "ima-list", maximumSize: 4096, accepted: 2, seeds: imaSeeds,
    check: { bytes in
        let whole = entries(bytes, parts: 1)
        // A list that comes in pieces is the same list.
        for parts in [2, 7] {
            try demand(entries(bytes, parts: parts) == whole, "in \(parts) parts it is another")
        }
        let sample = try Sample.shared.get()
        var values = sample.values
        values[.sha256, PCRIndex.all[10]] = sample.nonce
        let policy = try IMAPolicy(Array("{\"version\": 1, \"files\": {}}".utf8))
        var appraiser = IMAAppraiser(
            explaining: values, policy: policy, continuing: nil,
            boot: BootInstance(sample.clock))
        appraiser.append(bytes)
        let appraisal = appraiser.finish()
        _ = appraisal.facts.text
        try demand(
            appraisal.facts.proven == nil, "a list explains a value that nothing extended to")
        return whole != nil
    })

private let imaState = FuzzTarget(
    "ima-state",
    seeds: {
        let sample = try Sample.shared.get()
        var values = PCRValues()
        for index in PCRIndex.all.prefix(10) {
            values[.sha256, index] = HashAlgorithm.sha256.digest([index.rawValue])
        }
        var writer = IMAListWriter()
        writer.bootAggregate(of: values, bank: .sha256, through: 9)
        writer.measure(
            "/usr/bin/true",
            digest: .init(
                kind: "ima", algorithm: "sha256", bytes: [UInt8](repeating: 5, count: 32)))
        values[.sha256, PCRIndex.all[10]] = writer.records.reduce(
            [UInt8](repeating: 0, count: 32)
        ) { HashAlgorithm.sha256.digest($0, $1.extended(.sha256)) }
        var appraiser = IMAAppraiser(
            explaining: values, policy: nil, continuing: nil, boot: BootInstance(sample.clock))
        appraiser.append(writer.bytes)
        guard let state = appraiser.finish().state else {
            throw BrokenProperty("the sample has no state")
        }
        return [try state.encoded()]
    },
    check: { bytes in
        guard let state = try? IMAState(parsing: bytes) else { return false }
        try demand(try IMAState(parsing: state.encoded()) == state, "a state changed when stored")
        let sample = try Sample.shared.get()
        var values = PCRValues()
        values[.sha256, PCRIndex.all[10]] = sample.nonce
        var appraiser = IMAAppraiser(
            explaining: values, policy: nil, continuing: state, boot: BootInstance(sample.clock))
        appraiser.append(try imaSeeds()[0])
        _ = appraiser.finish()
        return true
    })

// MARK: systemd, dbx, values

private let systemdLog = FuzzTarget(
    "systemd-log",
    seeds: {
        let digest = hexadecimal(HashAlgorithm.sha256.digest(Array("enter-initrd".utf8)))
        let record =
            "\u{1E}{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"\(digest)\"}],"
            + "\"content_type\":\"systemd\",\"content\":{\"string\":\"enter-initrd\","
            + "\"eventType\":\"phase\"}}\n"
        return [Array((record + record).utf8), Array("\u{1E}{\"digests\":[]}\n".utf8)]
    },
    check: { bytes in
        guard let log = try? UserspaceLog(parsing: bytes) else { return false }
        for record in log.records {
            try demand(PCRIndex.all.indices.contains(record.pcr), "a register that is none")
            let text = record.text ?? ""
            try demand(
                text.utf8.allSatisfy { $0 >= 0x20 }, "text goes to a terminal as it came")
        }
        let boot = bootLog(EventLogWriter(algorithms: [.sha256]))
        _ = EventLogAppraisal(boot, userspace: log, explaining: nil, revocations: nil)
        return true
    })

private let revokedImages = FuzzTarget(
    "dbx", accepted: 3,
    seeds: {
        let list = signatureList(HashAlgorithm.sha256.digest([2]))
        let update =
            [UInt8](repeating: 1, count: 16) + little(24, 4) + little(0x0200, 2)
            + little(0x0EF1, 2) + [UInt8](repeating: 2, count: 16)
        return [
            list + list, update + list,
            Array((hexadecimal(HashAlgorithm.sha256.digest([3])) + "\n# a word\n").utf8),
        ]
    },
    check: { bytes in
        guard let images = try? RevokedImages(bytes) else { return false }
        let boot = bootLog(EventLogWriter(algorithms: [.sha256]))
        _ = EventLogAppraisal(boot, userspace: nil, explaining: nil, revocations: images)
        return true
    })

/// What `tpm2_quote -o serialized` writes.
private func serialized(_ values: PCRValues, _ selection: PCRSelection) -> [UInt8] {
    var bytes =
        little(1, 4) + little(0xB, 2) + [3] + (selection.banks.first?.bitmap ?? []) + [0, 0]
    bytes += [UInt8](repeating: 0, count: 132 - bytes.count) + little(1, 4)
    var list = little(2, 4)
    for index in [0, 7] {
        let value = values[.sha256, PCRIndex.all[index]] ?? []
        list += little(value.count, 2) + value + [UInt8](repeating: 0, count: 64 - value.count)
    }
    return bytes + list + [UInt8](repeating: 0, count: 532 - list.count)
}

private let pcrValues = FuzzTarget(
    "pcr-values", accepted: 2,
    seeds: {
        let sample = try Sample.shared.get()
        return [
            serialized(sample.values, sample.selection), Array(sample.values.yaml.utf8),
            [UInt8](repeating: 3, count: 64),
        ]
    },
    check: { bytes in
        let sample = try Sample.shared.get()
        let text = String(decoding: bytes, as: UTF8.self)
        if let selection = PCRSelection(text: text) {
            try demand(PCRSelection(text: selection.text) == selection, "a selection changed")
        }
        _ = try? EvidenceFiles.pcrValues(bytes, of: sample.selection)
        guard let values = try? EvidenceFiles.pcrValues(bytes) else { return false }
        try demand(
            try EvidenceFiles.pcrValues(Array(values.yaml.utf8)) == values,
            "values changed when they were printed")
        return true
    })

// MARK: Recordings

private let recording = FuzzTarget(
    "recording", maximumSize: 4096, accepted: 0,
    seeds: {
        let sample = try Sample.shared.get()
        return [bootLog(EventLogWriter(algorithms: [.sha256])), try imaSeeds()[0]]
            + [Array(("pcrs:\n" + sample.values.yaml).utf8)]
    },
    waiting: { bytes in
        let half = bytes.count / 2
        let files = [
            RecordedFile(path: "a.bin") { bytes }, RecordedFile(path: "d.bin") { bytes },
            RecordedFile(path: "a.yaml") { [UInt8](bytes[half...]) },
            RecordedFile(path: "b.pem") { bytes }, RecordedFile(path: "c.json") { bytes },
        ]
        let report = await RecordingReport(files, at: Date(timeIntervalSince1970: 1_800_000_000))
        try demand(report.rows.count == files.count, "a file was left out")
        try demand(
            report.text.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x0A },
            "text goes to a terminal as it came")
        return report.rows.contains { $0.verdict == "valid" }
    })

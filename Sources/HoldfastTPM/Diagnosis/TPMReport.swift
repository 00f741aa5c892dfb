import HoldfastCrypto
public import HoldfastTPMWire

/// What is known of a TPM, for people who look for the cause of a failure.
///
/// It has no secrets.
public struct TPMReport: Sendable, Codable {
    /// One thing that was looked at.
    public struct Finding: Sendable, Codable {
        /// How good or bad it is.
        public enum Level: String, Sendable, Codable {
            case ok
            /// Works, with a limit.
            case warning
            /// Holdfast cannot work so.
            case missing
        }

        public let id: String
        public let level: Level
        /// What was found.
        public let text: String
        /// What to do about it.
        public let hint: String?

        public init(id: String, level: Level, text: String, hint: String?) {
            self.id = id
            self.level = level
            self.text = text
            self.hint = hint
        }
    }

    public let manufacturer: String
    public let model: String
    public let firmware: String
    /// A program, not a chip: it proves nothing about hardware.
    public let isSoftware: Bool
    public let banks: [String]
    public let findings: [Finding]

    /// The same report with what was found besides the TPM.
    public func adding(_ more: [Finding]) -> TPMReport {
        TPMReport(
            manufacturer: manufacturer, model: model, firmware: firmware, isSoftware: isSoftware,
            banks: banks, findings: findings + more)
    }

    /// Holdfast can work with this TPM.
    public var isUsable: Bool { !findings.contains { $0.level == .missing } }
}

extension TPMConnection {
    /// Commands without which a lease cannot live on a TPM.
    private static let neededCommands: [CommandCode] = [
        .createPrimary, .load, .loadExternal, .startAuthSession, .policyPCR, .policyAuthorize,
        .policyNV, .policyCounterTimer, .policyOR, .policyCommandCode, .policySecret, .unseal,
        .quote, .certify, .nvCertify, .nvDefineSpace, .nvIncrement, .activateCredential,
        .importObject, .verifySignature, .evictControl,
    ]

    /// Commands that a lease needs and this TPM does not have.
    public func missingCommands() throws(TPMError) -> [CommandCode] {
        let present = try commands()
        return Self.neededCommands.filter { !present.contains($0) }
    }

    /// Looks at everything that Holdfast needs.
    public func report() throws(TPMError) -> TPMReport {
        let properties = try properties()
        let manufacturer = Self.text([properties[0x105] ?? 0])
        let model = Self.text((0x106...0x109).map { properties[$0] ?? 0 })
        let firmware = Self.firmwareText(properties[0x10B] ?? 0, properties[0x10C] ?? 0)
        let isSoftware = Self.isSoftware(manufacturer: manufacturer, model: model)
        let banks = try activeBanks()

        var findings: [TPMReport.Finding] = []
        func found(
            _ id: String, _ level: TPMReport.Finding.Level, _ text: String, _ hint: String? = nil
        ) {
            findings.append(.init(id: id, level: level, text: text, hint: hint))
        }

        found(
            "tpm", isSoftware ? .warning : .ok,
            "\(isSoftware ? "software TPM" : "TPM"): \(manufacturer) \(model), firmware \(firmware)",
            isSoftware ? "a software TPM is for tests: it is as honest as whoever runs it" : nil)

        let missing = try missingCommands()
        if missing.isEmpty {
            found("commands", .ok, "all \(Self.neededCommands.count) needed commands are there")
        } else {
            found(
                "commands", .missing,
                "missing: \(missing.map(\.specificationName).joined(separator: ", "))",
                "this TPM cannot carry leases; a firmware update may bring the commands")
        }

        let strong = banks.filter { $0 != .sha1 }
        if strong.isEmpty {
            found(
                "banks", .missing,
                banks.isEmpty ? "no PCR bank is active" : "only the SHA-1 bank is active",
                "activate the SHA-256 bank in the firmware's set-up")
        } else {
            found("banks", .ok, "PCR banks: \(banks.map(\.name).joined(separator: ", "))")
        }
        var measured: [HashAlgorithm] = []
        for bank in strong {
            let values = try readPCRs(PCRSelection(bank, PCRIndex.firmware))
            let untouched = PCRIndex.firmware.filter { index in
                values[bank, index] == index.resetValue(digestSize: bank.digestSize)
            }
            if untouched.isEmpty {
                measured.append(bank)
            } else {
                let list = untouched.map { String($0.rawValue) }.joined(separator: ", ")
                found(
                    "boot-\(bank.name)", .warning, "\(bank.name): PCR \(list) never extended",
                    "the firmware does not measure into this bank, so anyone could: do not use it")
            }
        }
        if measured.isEmpty {
            found(
                "boot", .missing, "no bank has a measured boot in PCR 0 to 7",
                "switch on measured boot, or the TPM, in the firmware's set-up")
        } else {
            found(
                "boot", .ok, "measured boot in \(measured.map(\.name).joined(separator: ", "))")
        }

        for kind in EndorsementKeyKind.allCases {
            do throws(TPMError) {
                guard let certificate = try endorsementCertificate(kind) else { continue }
                found(
                    "ek-\(kind.rawValue)", .ok,
                    "EK certificate \(kind.rawValue) at \(kind.certificateIndex), \(certificate.count) bytes"
                )
            } catch {
                guard error.isOfOneEntity else { throw error }
                found(
                    "ek-\(kind.rawValue)", .warning,
                    "the index \(kind.certificateIndex) of EK certificate \(kind.rawValue) cannot be read: \(error)",
                    "it is passed over; a certificate of another kind will do")
            }
        }
        if !findings.contains(where: { $0.id.hasPrefix("ek-") && $0.level == .ok }) {
            found(
                "ek", .missing, "no EK certificate of a kind that Holdfast uses",
                "ask the maker of the machine; some vendors give it over the network")
        }

        let clock = try clock()
        found(
            "clock", .ok,
            "clock \(clock.clock) ms, \(clock.resetCount) resets, \(clock.restartCount) restarts"
                + (clock.safe ? "" : ", last stop was not orderly")
        )
        let permanent = properties[0x200] ?? 0
        if permanent & 0x200 != 0 {
            found(
                "lockout", .warning, "in dictionary attack lockout",
                "keys of Holdfast are exempt; other programs must wait")
        }
        for (bit, name) in [(UInt32(1), "owner"), (2, "endorsement")] where permanent & bit != 0 {
            found(
                "auth-\(name)", .missing, "the \(name) password is set",
                "Holdfast needs the empty one: ask who administers this TPM")
        }
        // Part 2, section 8.5 "TPMA_STARTUP_CLEAR".
        let startup = properties[0x201] ?? 7
        for (bit, name) in [(UInt32(2), "owner"), (4, "endorsement")] where startup & bit == 0 {
            found(
                "hierarchy-\(name)", .missing, "the \(name) hierarchy is switched off",
                "switch the TPM on in the machine's firmware set-up, with all hierarchies")
        }
        let persistent = try handles(from: 0x8100_0000)
        let taken = Set(persistent + (try handles(from: 0x0100_0000)))
        let used = VendorSlot.all.filter {
            !taken.isDisjoint(with: [$0.leaseParent, $0.epochCounter, $0.ledgerCounter])
        }
        if !used.isEmpty {
            let names = used.map {
                "\($0.leaseParent) with \($0.epochCounter) and \($0.ledgerCounter)"
            }
            found(
                "vendors", .ok, "enrollments in this TPM: \(names.joined(separator: "; "))",
                used.count > 1
                    ? "what a former installation left takes room: `tpm2_evictcontrol -c` the first, `tpm2_nvundefine` the others, and every license in it ends"
                    : nil)
        }
        let transient = try handles(from: 0x8000_0000).count
        if !hasResourceManager, transient > 0 {
            found(
                "slots", .warning, "\(transient) objects of other programs occupy the TPM",
                "use /dev/tpmrm0, or restart the machine")
        }
        return TPMReport(
            manufacturer: manufacturer, model: model, firmware: firmware, isSoftware: isSoftware,
            banks: banks.map(\.name), findings: findings)
    }

    /// Known programs that play a TPM.
    private static func isSoftware(manufacturer: String, model: String) -> Bool {
        manufacturer == "IBM" && model.hasPrefix("SW") || manufacturer == "XCG"
            || model.contains("SW   TPM") || model.contains("xCG fTPM")
    }

    private static func text(_ words: [UInt32]) -> String {
        var bytes: [UInt8] = []
        for word in words {
            for shift in [24, 16, 8, 0] as [UInt32] {
                let byte = UInt8(truncatingIfNeeded: word >> shift)
                if (0x20..<0x7F).contains(byte) { bytes.append(byte) }
            }
        }
        while bytes.last == 0x20 { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func firmwareText(_ high: UInt32, _ low: UInt32) -> String {
        "\(high >> 16).\(high & 0xFFFF).\(low >> 16).\(low & 0xFFFF)"
    }
}

import HoldfastCrypto
import HoldfastTPMWire

/// What a boot event log says, as far as digests bear it out.
///
/// They are as good as the values that the log explains. PCR 0 to 7 are the firmware's until the
/// separators; what stands in others, somebody may have extended who was root later.
public struct EventLogFacts: Sendable, Hashable, Codable {
    /// A database of Secure Boot.
    public struct Database: Sendable, Hashable, Codable {
        /// SHA-256 over the variable's content, in hexadecimal.
        public let sha256: String
        public let certificates: [MeasuredCertificate]
        /// How many images are named by hash.
        public let hashes: Int
    }

    /// Something that was started, known by its digest.
    public struct Image: Sendable, Hashable, Codable {
        public let event: Int
        /// As `sha256:…`; of a PE image the Authenticode digest.
        public let digest: String
        /// Where it came from, which the log only claims.
        public let claimedPath: String?
    }

    /// Whose key vouched for what was started.
    public struct Authority: Sendable, Hashable, Codable {
        public let variable: String
        public let certificate: MeasuredCertificate
    }

    /// `crypto-agile` or `sha1`.
    public let format: String
    /// Events, the header included.
    public let events: Int
    /// Bytes of padding behind the last event.
    public let padding: Int
    /// What PCR 0 starts from.
    public let startupLocality: Int
    /// PCRs with exactly one separator that tells of no error.
    public let separators: [Int]
    /// PCRs with a separator that tells of an error.
    public let errors: [Int]
    /// The variable SecureBoot as it was measured into PCR 7 before the separator; `nil` unless it
    /// was measured there once and its digests are those of what the log shows.
    public let secureBoot: Bool?
    /// PK, KEK, db and dbx by name, under the same conditions.
    public let databases: [String: Database]
    /// Certificates that vouched for what firmware and shim started, in their order.
    public let authorities: [Authority]
    /// What else may have vouched in PCR 7: hashes, and whatever is not shown; digests for people.
    public let otherAuthorities: [String]
    /// Firmware said in PCR 7 that a debugger may be attached; `nil` when PCR 7 is not in the log.
    public let uefiDebug: Bool?
    /// Firmware said in PCR 7 that devices reach all memory; `nil` when PCR 7 is not in the log.
    public let dmaProtectionDisabled: Bool?
    /// `succeeded`, `failed`, `begun`, or `not-shown`.
    public let exitBootServices: String
    /// What PCR 4 holds but for actions and separators: boot loaders, kernels.
    public let bootApplications: [Image]
    /// The sections that began PCR 11, with digests: a unified kernel image, if systemd-stub began it.
    public let sections: [String: String]
    /// Command lines that boot loaders measured, in their order.
    public let commandLines: [String]
    /// What the running system measured, register and text, in its order.
    public let userspace: [UserspaceLog.Record]

    /// SHA-256 of images that the measured dbx refuses; not printed, there are hundreds.
    let revoked: Set<[UInt8]>?
    /// What is out of order in PCR 4 or 5; `nil` when nothing is.
    let disorder: String?

    private enum CodingKeys: CodingKey {
        case format, events, padding, startupLocality, separators, errors, secureBoot, databases
        case authorities, otherAuthorities, uefiDebug, dmaProtectionDisabled, exitBootServices,
            bootApplications
        case sections, commandLines, userspace
    }

    /// Reads what was printed; hashes of dbx are not part of that.
    public init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: CodingKeys.self)
        format = try members.decode(String.self, forKey: .format)
        events = try members.decode(Int.self, forKey: .events)
        padding = try members.decode(Int.self, forKey: .padding)
        startupLocality = try members.decode(Int.self, forKey: .startupLocality)
        separators = try members.decode([Int].self, forKey: .separators)
        errors = try members.decode([Int].self, forKey: .errors)
        secureBoot = try members.decodeIfPresent(Bool.self, forKey: .secureBoot)
        databases = try members.decode([String: Database].self, forKey: .databases)
        authorities = try members.decode([Authority].self, forKey: .authorities)
        otherAuthorities = try members.decode([String].self, forKey: .otherAuthorities)
        uefiDebug = try members.decodeIfPresent(Bool.self, forKey: .uefiDebug)
        dmaProtectionDisabled = try members.decodeIfPresent(
            Bool.self, forKey: .dmaProtectionDisabled)
        exitBootServices = try members.decode(String.self, forKey: .exitBootServices)
        bootApplications = try members.decode([Image].self, forKey: .bootApplications)
        sections = try members.decode([String: String].self, forKey: .sections)
        commandLines = try members.decode([String].self, forKey: .commandLines)
        userspace = try members.decode([UserspaceLog.Record].self, forKey: .userspace)
        revoked = nil
        disorder = nil
    }

    init(_ log: EventLog, userspace: UserspaceLog?) {
        format = log.header == nil ? "sha1" : "crypto-agile"
        events = log.events.count
        padding = log.padding
        startupLocality = Int(log.startupLocality)
        separators = PCRIndex.firmware.filter { index in
            let found = log.events.filter { $0.extendedPCR == index && $0.mayBeSeparator }
                .filter { !$0.isErrorSeparator }
            return found.count == 1 && found.allSatisfy(\.isSeparator)
        }.map { Int($0.rawValue) }
        errors = PCRIndex.firmware.filter { index in
            log.events.contains { $0.extendedPCR == index && $0.mayBeErrorSeparator }
        }.map { Int($0.rawValue) }
        let policy = log.events.filter { $0.extendedPCR?.rawValue == 7 }
        secureBoot = Self.variable("SecureBoot", FirmwareVariable.global, policy).flatMap {
            $0.data == [1] ? true : $0.data == [0] ? false : nil
        }
        var databases: [String: Database] = [:]
        var revoked: Set<[UInt8]>?
        for (name, vendor) in [
            ("PK", FirmwareVariable.global), ("KEK", FirmwareVariable.global),
            ("db", FirmwareVariable.imageSecurity), ("dbx", FirmwareVariable.imageSecurity),
        ] {
            guard let variable = Self.variable(name, vendor, policy),
                let lists = SignatureLists(variable.data)
            else { continue }
            databases[name] = Database(
                sha256: hexadecimal(HashAlgorithm.sha256.digest(variable.data)),
                certificates: lists.certificates.map(MeasuredCertificate.init),
                hashes: lists.hashes.count)
            if name == "dbx" { revoked = lists.hashes }
        }
        self.databases = databases
        self.revoked = revoked
        authorities = policy.compactMap(Self.authority)
        otherAuthorities = Self.others(policy)
        let flag = { (text: String) in
            policy.isEmpty ? nil : policy.contains { $0.mayBeAction(text) }
        }
        uefiDebug = flag("UEFI Debug Mode")
        dmaProtectionDisabled = flag("DMA Protection Disabled")
        let handover = Handover(log)
        exitBootServices = handover.state
        disorder = handover.disorder
        bootApplications = log.events.enumerated().compactMap { number, event in
            guard event.extendedPCR?.rawValue == 4, !event.isSeparator, !event.isErrorSeparator,
                !Self.actions.contains(where: event.isAction)
            else { return nil }
            return Image(
                event: number, digest: event.bestDigest,
                claimedPath: BootStep.imagePath([UInt8](event.untrustedData)))
        }
        sections = Self.sections(log)
        commandLines = log.events.compactMap(Self.commandLine)
        self.userspace = userspace?.records ?? []
    }

    /// PC Client Platform Firmware Profile, "EV_EFI_ACTION event types".
    private static let actions = [
        "Calling EFI Application from Boot Option",
        "Returning from EFI Application from Boot Option",
        "Booting to", "Entering ROM Based Setup",
    ]

    /// A variable that was measured into PCR 7 before the separator, once, and as the log shows it.
    private static func variable(
        _ name: String, _ vendor: [UInt8], _ events: [BootEvent]
    ) -> FirmwareVariable? {
        var found: FirmwareVariable?
        for event in events {
            // Who extends PCR 7 after the boot would call the true separator something else.
            if event.mayBeSeparator { break }
            guard event.type == .efiVariableDriverConfiguration,
                let variable = FirmwareVariable(event.untrustedData),
                variable.isNamed(name, vendor)
            else { continue }
            guard found == nil, let measured = event.measuredVariable else { return nil }
            found = measured
        }
        return found
    }

    private static func authority(_ event: BootEvent) -> Authority? {
        // Whatever its type says, which nobody measured.
        guard let variable = event.measuredVariable, let certificate = authority(variable) else {
            return nil
        }
        return Authority(
            variable: printable(firmwareText(variable.name)), certificate: certificate)
    }

    /// Events of PCR 7 that are neither certificates nor what is known to vouch for nothing.
    ///
    /// Before the separator stand the variables of Secure Boot; an authority by hash is an owner and
    /// a hash, shorter than any list of a variable. After it, shim measures its own two variables.
    private static func others(_ events: [BootEvent]) -> [String] {
        var isAfter = false
        var others: [String] = []
        for event in events {
            // From here on a running system may have extended it, and less is passed over.
            if event.mayBeSeparator { isAfter = true }
            if event.isSeparator { continue }
            let isFlag =
                event.isAction("UEFI Debug Mode")
                || event.isAction("DMA Protection Disabled")
            if isFlag || event.isErrorSeparator || authority(event) != nil { continue }
            if let variable = event.measuredVariable {
                let isOfShim = ["SbatLevel", "MokListTrusted"].contains {
                    variable.isNamed($0, FirmwareVariable.shim)
                }
                if isAfter ? isOfShim : !variable.mayBeHash { continue }
            }
            others.append(event.bestDigest)
        }
        return others
    }

    /// The certificate in an authority: firmware puts its owner before it, shim does not.
    static func authority(_ variable: FirmwareVariable) -> MeasuredCertificate? {
        for der in [[UInt8](variable.data.dropFirst(16)), variable.data]
        where der.first == 0x30 {
            let certificate = MeasuredCertificate(der)
            if certificate.subject != nil { return certificate }
        }
        return nil
    }

    /// Pairs of a section's name and its content, from the first event of PCR 11 on.
    private static func sections(_ log: EventLog) -> [String: String] {
        var sections: [String: String] = [:]
        var name: String?
        for event in log.events where event.extendedPCR?.rawValue == 11 {
            if let known = name {
                sections[known] = event.bestDigest
                name = nil
            } else {
                name = event.sectionName
                guard let name, sections[name] == nil else { break }
            }
        }
        return sections
    }

    /// The command line of a kernel: of GRUB in PCR 8, of systemd-boot and its stub in PCR 8 or 12.
    private static func commandLine(_ event: BootEvent) -> String? {
        guard event.type == .ipl, [8, 12].contains(event.extendedPCR?.rawValue),
            let (kind, text) = event.measuredText, kind != "grub_cmd", kind != "module_cmdline"
        else { return nil }
        return printable(text)
    }
}

extension EventLogFacts {
    /// A line for each fact.
    public var text: String {
        var lines = [
            "format        \(format), \(events) events"
                + (padding > 0 ? ", \(padding) bytes of padding" : ""),
            "locality      \(startupLocality)",
            "separators    \(separators.map(String.init).joined(separator: ", "))",
            "secure boot   \(secureBoot.map { $0 ? "on" : "off" } ?? "not shown")",
        ]
        for name in ["PK", "KEK", "db", "dbx"] {
            guard let database = databases[name] else { continue }
            lines.append(
                "\(name)\(String(repeating: " ", count: 14 - name.count))"
                    + "\(database.certificates.count) certificates, \(database.hashes) hashes")
        }
        for authority in authorities {
            let certificate = authority.certificate
            lines.append(
                "authority     \(authority.variable): \(certificate.subject ?? certificate.sha256)")
        }
        for other in otherAuthorities { lines.append("authority     unknown: \(other)") }
        if uefiDebug == true { lines.append("debugger      firmware allows one") }
        if dmaProtectionDisabled == true { lines.append("DMA           not protected") }
        lines.append("exit          \(exitBootServices)")
        for (name, digest) in sections.sorted(by: { $0.key < $1.key }) {
            lines.append("section       \(name) \(digest)")
        }
        for line in commandLines { lines.append("command line  \(line)") }
        for record in userspace {
            lines.append("userspace     PCR \(record.pcr) \(record.text ?? "not shown")")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

extension EventLogAppraisal {
    /// The boot in words, a line for each event.
    public var timelineText: String {
        let proven = Set(explained.values.keys.map { Int($0.index.rawValue) })
        return timeline.map { step in
            step.line(isProven: step.pcr.map(proven.contains) ?? false) + "\n"
        }.joined()
    }
}

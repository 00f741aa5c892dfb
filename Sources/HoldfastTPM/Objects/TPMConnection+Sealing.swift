public import HoldfastCrypto
public import HoldfastTPMWire

/// What a blob needs to open, besides the TPM.
public struct UnsealingMeans {
    /// The PIN; asked for by policies with PolicyAuthValue.
    public var pin: SymmetricSecret?
    /// Signatures under boot states, for PolicyAuthorize.
    public var approvals: [PCRApproval]
    /// Passwords of entities, for PolicySecret.
    public var secrets: [TPMName: SymmetricSecret]
    /// The password of the owner hierarchy, when it is not empty.
    public var owner: SymmetricSecret?
    /// A key whose Name was pinned before, such as the lease parent.
    ///
    /// Without one, sessions are salted to the storage key that the blob names.
    public var salt: LoadedObject?

    public init(
        pin: SymmetricSecret? = nil, approvals: [PCRApproval] = [],
        secrets: [TPMName: SymmetricSecret] = [:], owner: SymmetricSecret? = nil,
        salt: LoadedObject? = nil
    ) {
        self.pin = pin
        self.approvals = approvals
        self.secrets = secrets
        self.owner = owner
        self.salt = salt
    }
}

/// How far the TPM is from taking no PIN any more.
///
/// Part 1, section 19.8 "Dictionary Attack Protection".
public struct LockoutState: Sendable, Hashable {
    /// No PIN is taken now.
    public let isLocked: Bool
    /// Wrong tries that are left.
    public let triesLeft: UInt32
    /// In how many seconds of running one try comes back; 0 when none does.
    public let interval: UInt32

    /// The time after which another PIN is taken, at most, in words.
    public var wait: String {
        guard interval > 0 else { return "until somebody resets it" }
        let minutes = (interval + 59) / 60
        return interval < 120 ? "\(interval) seconds" : "\(minutes) minutes"
    }
}

extension TPMConnection {
    /// What a PIN may have: the TPM takes no authorization value longer than a SHA-256 digest.
    public static let pinSizes = 4...32

    /// How many ways through the branches of a policy are tried.
    static let maximumWays = 64

    /// Fills in what a policy text leaves to this TPM: PCR values, indexes, Names.
    ///
    /// - Parameter keys: the public areas of the keys that the text names, by file.
    public func policy(
        _ text: PolicyText, keys: [String: PublicArea]
    ) throws(TPMError) -> Policy {
        Policy(hash: .sha256, try assertions(text, keys, isStart: true))
    }

    private func assertions(
        _ text: PolicyText, _ keys: [String: PublicArea], isStart: Bool
    ) throws(TPMError) -> [PolicyAssertion] {
        var found: [PolicyAssertion] = []
        for term in text.terms {
            switch term {
            case .pcrs(let selection):
                let values = try readPCRs(selection)
                guard let digest = values.digest(of: selection, hash: .sha256) else {
                    throw TPMError(.notSupported, "a PCR of `\(selection.text)` cannot be read")
                }
                found.append(.pcr(selection, digest: digest))
            case .pin: found.append(.authValue)
            case .time(let field, let operation, let value):
                found.append(.counterTimer(field, operation, value))
            case .nv(let handle, let offset, let operation, let operand):
                guard let area = try nvPublicArea(at: handle) else {
                    throw TPMError(.policyNotMet, "there is no index \(handle)")
                }
                guard area.attributes.contains(.written) else {
                    throw TPMError(
                        .policyNotMet,
                        "the index \(handle) was never written, and its Name will change")
                }
                found.append(.nv(area, operand: operand, offset: offset, operation))
            case .command(let code): found.append(.commandCode(code))
            case .approved(let file, let reference):
                // The TPM compares the approved digest with all that came before.
                guard isStart, found.isEmpty else {
                    throw TPMError(
                        .policyNotMet,
                        "`approved by` comes first: what is before it would be approved")
                }
                guard let key = keys[file] else {
                    throw TPMError(.invalidRequest, "the key `\(file)` was not read")
                }
                found.append(.authorize(key: key.name, policyRef: reference))
            case .secret(let handle):
                found.append(.secret(entity: try name(of: handle), policyRef: []))
            case .nvWritten(let written): found.append(.nvWritten(written))
            case .or(let branches):
                var inner: [[PolicyAssertion]] = []
                for branch in branches {
                    inner.append(
                        try assertions(branch, keys, isStart: isStart && found.isEmpty))
                }
                found.append(.or(inner))
            }
        }
        return found
    }

    private func name(of handle: TPMHandle) throws(TPMError) -> TPMName {
        if handle.isPersistent { return try object(at: handle).name }
        guard handle.isNVIndex else { return TPMName(handle: handle) }
        guard let area = try nvPublicArea(at: handle) else {
            throw TPMError(.policyNotMet, "there is no index \(handle)")
        }
        return area.name
    }

    /// Seals a secret under the conditions of a text, as they are now.
    ///
    /// The TPM vouches for the values and Names that go into the policy, in a session that is salted to
    /// `salt` or the storage key: else who stands in between could have it sealed to a state of his own.
    ///
    /// - Parameter keys: the public areas of the keys that the text names, by file.
    /// - Throws: as ``policy(_:keys:)`` and ``seal(_:policy:pin:salt:owner:)``.
    public func seal(
        _ secret: borrowing SecretBytes, under text: PolicyText, keys: [String: PublicArea],
        pin: SymmetricSecret?, salt: LoadedObject? = nil, owner: SymmetricSecret? = nil
    ) throws(TPMError) -> SealedBlob {
        guard let salt else {
            return try withStorageKey(owner) { (parent) throws(TPMError) in
                try seal(secret, under: text, keys: keys, pin: pin, salt: parent, owner: owner)
            }
        }
        return try vouched(for: salt) { (tpm) throws(TPMError) in
            try tpm.seal(
                secret, policy: tpm.policy(text, keys: keys), pin: pin, salt: salt, owner: owner)
        }
    }

    /// Seals a secret under a policy, below the storage key of this TPM.
    ///
    /// The secret and the PIN go to the TPM encrypted, in a session that is salted to the storage
    /// key, or to `salt`.
    ///
    /// - Parameters:
    ///   - secret: 1 to 128 bytes.
    ///   - pin: 4 to 32 bytes when the policy asks for it, else `nil`.
    ///   - salt: a key whose Name was pinned before, such as the lease parent. Without one the
    ///     storage key that the TPM shows is believed, this once.
    ///   - owner: the password of the owner hierarchy.
    /// - Throws: `.notMeasured` for PCRs that nobody measured into.
    public func seal(
        _ secret: borrowing SecretBytes, policy: Policy, pin: SymmetricSecret?,
        salt: LoadedObject? = nil, owner: SymmetricSecret? = nil
    ) throws(TPMError) -> SealedBlob {
        guard (1...ImportBlob.maximumSecretSize).contains(secret.count) else {
            throw TPMError(
                .invalidRequest,
                "a secret has 1 to \(ImportBlob.maximumSecretSize) bytes, this one \(secret.count)")
        }
        guard policy.asksForPIN == (pin != nil) else {
            throw TPMError(
                .pinNeeded, "a PIN belongs to a policy that asks for it, and the reverse")
        }
        if policy.contains(where: { if case .nvWritten = $0 { true } else { false } }) {
            throw TPMError(
                .policyNotMet, "`nv-written` speaks of an index: nothing sealed under it would open"
            )
        }
        guard policy.isWritable else {
            throw TPMError(.policyNotMet, "the policy has more conditions or branches than a blob")
        }
        let values = try measuredValues(policy)
        let template = KeyTemplate.sealedData(policy: policy, guessable: policy.asksForPIN)
        return try withStorageKey(owner) { (parent) throws(TPMError) in
            let made = try withSession(.hmac, hash: .sha256, salt: .key(salt ?? parent)) {
                (session) throws(TPMError) in
                try run(
                    CreateCommand(
                        parent: parent.reference, template: template, authValue: pin ?? .empty,
                        data: SymmetricSecret(secret)),
                    [.hmac(session, authValue: .empty)], encryptingCommand: true)
            }
            var expected = template
            if case .keyedHash(let unique) = made.publicArea.kind {
                expected.kind = .keyedHash(unique: unique)
            }
            guard expected == made.publicArea else {
                throw TPMError(
                    .malformedResponse, "the TPM sealed under another policy than it was told",
                    command: "TPM2_Create")
            }
            return SealedBlob(
                parent: parent.name, publicArea: made.publicArea.wireBytes,
                privateBlob: made.privateBlob, policy: policy, pcrValues: values)
        }
    }

    /// The present values of the PCRs of a policy, which must be measured ones.
    private func measuredValues(_ policy: Policy) throws(TPMError) -> PCRValues {
        var values = PCRValues()
        for selection in policy.pcrSelections {
            for bank in selection.banks {
                guard bank.hash != .sha1 else {
                    throw TPMError(.notMeasured, "the SHA-1 bank proves nothing")
                }
                let found = try readPCRs(PCRSelection(bank.hash, bank.indexes))
                for index in bank.indexes {
                    guard index.rawValue != 16, index.rawValue != 23 else {
                        throw TPMError(
                            .notMeasured,
                            "any program may reset PCR \(index.rawValue): it guards nothing")
                    }
                    values[bank.hash, index] = found[bank.hash, index]
                }
                let untouched = bank.indexes.filter { index in
                    found[bank.hash, index] == index.resetValue(digestSize: bank.hash.digestSize)
                }
                let firmware = untouched.filter { $0.rawValue < 8 }
                let open = untouched.count == bank.indexes.count ? untouched : firmware
                guard open.isEmpty else {
                    let list = open.map { String($0.rawValue) }.joined(separator: ", ")
                    throw TPMError(
                        .notMeasured,
                        "nobody measured into PCR \(list) of the \(bank.hash.name) bank, so anyone could"
                    )
                }
            }
        }
        return values
    }

    /// Lends the storage key.
    ///
    /// - Parameter salt: a pinned key, so that nobody who listens can try passwords.
    public func withStorageKey<R: ~Copyable>(
        _ owner: SymmetricSecret?, salt: LoadedObject? = nil,
        _ body: (LoadedObject) throws(TPMError) -> R
    ) throws(TPMError) -> R {
        guard let owner else {
            return try withPrimary(KeyTemplate.storageKey, in: .owner, body)
        }
        var made: LoadedObject?
        try withSession(.hmac, hash: .sha256, salt: salt.map { .key($0) } ?? .none) {
            (session) throws(TPMError) in
            made = try run(
                CreatePrimaryCommand(hierarchy: .owner, template: KeyTemplate.storageKey),
                [.hmac(session, authValue: owner)])
        }
        guard let made else { throw TPMError(.invalidRequest, "no key was made") }
        defer { try? flush(made.handle) }
        return try body(made)
    }

    /// Opens a sealed blob.
    ///
    /// - Throws: ``TPMError``, with the condition that does not hold: `.pcrsChanged`, `.pinWrong`,
    ///   `.lockedOut`, `.policyNotMet`.
    public func unseal(
        _ blob: SealedBlob, with means: UnsealingMeans
    ) throws(TPMError) -> SecretBytes {
        try withStorageKey(means.owner, salt: means.salt) { (parent) throws(TPMError) in
            guard parent.name == blob.parent else {
                throw TPMError(
                    .blobForeign,
                    "the blob was sealed by another TPM, or this one was cleared since")
            }
            return try unseal(blob, below: parent, with: means)
        }
    }

    /// Opens sealed data below a loaded storage key with an empty authorization value.
    ///
    /// - Parameter parent: its Name was pinned.
    public func unseal(
        _ blob: SealedBlob, below parent: LoadedObject, with means: UnsealingMeans
    ) throws(TPMError) -> SecretBytes {
        let area: PublicArea
        do throws(SealedObjectError) { area = try blob.object() } catch {
            throw TPMError(.policyNotMet, "the blob is of no use: \(error)")
        }
        // Nothing in it is secret, and the session that unseals covers the object's Name.
        let object = try run(
            LoadCommand(
                parent: parent.reference, privateBlob: blob.privateBlob,
                publicArea: blob.publicArea), [.emptyAuth])
        defer { try? flush(object.handle) }
        guard object.name == area.name else {
            throw TPMError(.nameMismatch, "the TPM loaded another object than it was given")
        }
        var first: TPMError?
        var isPINMissing = false
        for way in blob.policy.ways(maximum: Self.maximumWays) {
            let asks = Self.asksForPIN(blob.policy.assertions, way)
            if asks, means.pin == nil {
                isPINMissing = true
                continue
            }
            do throws(TPMError) {
                return try unseal(object, blob.policy, way, means, parent, asksForPIN: asks)
            } catch {
                // A wrong PIN is counted: no second try with it. Of another way nothing is.
                if asks, error.command == CommandCode.unseal.specificationName {
                    switch error.returnCode {
                    case .authFail?, .lockout?, .badAuth?: throw pinError(error)
                    default: break
                    }
                }
                guard [.refused, .bootStateNotApproved, .policyNotMet].contains(error.code) else {
                    throw error
                }
                first = first ?? error
            }
        }
        let reason = try explained(first, blob)
        guard isPINMissing else { throw reason }
        throw TPMError(
            .pinNeeded, first == nil ? "a PIN is needed" : "a PIN is needed: \(reason)")
    }

    private func unseal(
        _ object: EntityReference, _ policy: Policy, _ way: [Int], _ means: UnsealingMeans,
        _ parent: LoadedObject, asksForPIN: Bool
    ) throws(TPMError) -> SecretBytes {
        let pin = asksForPIN ? means.pin : nil
        let isApart = policy.asksForPIN && !asksForPIN
        let binding = pin.map { SessionBinding(object, authValue: $0) }
        var attempts = 0
        while true {
            do {
                let needed = PolicyMeans(
                    approvals: means.approvals, branches: way, secrets: means.secrets,
                    salt: means.salt)
                if isApart {
                    return try unsealApart(object, policy, needed, means.salt ?? parent)
                }
                return try withSession(
                    .policy, hash: policy.hash, salt: .key(means.salt ?? parent), bind: binding
                ) { (session) throws(TPMError) in
                    try satisfy(policy, in: session, with: needed)
                    return try runForSecret(
                        UnsealCommand(object), [.policyOnce(session, authValue: pin ?? .empty)])
                }
            } catch {
                guard case .pcrChanged? = error.returnCode, attempts < Self.maximumPCRRetries
                else { throw error }
                attempts += 1
            }
        }
    }

    /// Unseals an object that has a PIN on a way that does without it.
    ///
    /// The session that authorizes hides parameters under the object's authorization value as well,
    /// which is the PIN (Part 1, section 21.3): so another session hides them, and vouches for the
    /// answer.
    private func unsealApart(
        _ object: EntityReference, _ policy: Policy, _ means: PolicyMeans, _ salt: LoadedObject
    ) throws(TPMError) -> SecretBytes {
        try withSession(.policy, hash: policy.hash, salt: .none) { (session) throws(TPMError) in
            try satisfy(policy, in: session, with: means)
            return try withSession(.hmac, hash: .sha256, salt: .key(salt)) {
                (hiding) throws(TPMError) in
                try runForSecret(
                    UnsealCommand(object),
                    [.policyOnce(session), .hmac(hiding, authValue: .empty)])
            }
        }
    }

    /// Whether the PIN is asked for on one way through the branches.
    private static func asksForPIN(_ assertions: [PolicyAssertion], _ way: [Int]) -> Bool {
        var rest = way[...]
        func look(_ assertions: [PolicyAssertion]) -> Bool {
            var asks = false
            for assertion in assertions {
                if assertion == .authValue { asks = true }
                if case .or(let branches) = assertion, let choice = rest.popFirst(),
                    look(branches[choice])
                {
                    asks = true
                }
            }
            return asks
        }
        return look(assertions)
    }

    /// The wrong PIN, in words that say how many tries are left.
    private func pinError(_ error: TPMError) -> TPMError {
        guard let state = try? lockoutState() else { return error }
        if case .lockout? = error.returnCode {
            return TPMError(
                .lockedOut,
                "the TPM takes no PIN after too many wrong ones; it takes one again in at most \(state.wait)",
                returnCode: error.returnCode)
        }
        let left =
            state.isLocked || state.triesLeft == 0
            ? "no try is left, and the TPM takes another PIN in at most \(state.wait)"
            : state.triesLeft == 1 ? "1 try is left" : "\(state.triesLeft) tries are left"
        return TPMError(.pinWrong, "the PIN is wrong; \(left)", returnCode: error.returnCode)
    }

    /// How many wrong tries the TPM still takes.
    public func lockoutState() throws(TPMError) -> LockoutState {
        let properties = try properties()
        let counter = properties[0x20E] ?? 0
        let maximum = properties[0x20F] ?? 0
        return LockoutState(
            isLocked: (properties[0x200] ?? 0) & 0x200 != 0 || counter >= maximum && maximum > 0,
            triesLeft: maximum > counter ? maximum - counter : 0, interval: properties[0x210] ?? 0)
    }

    /// Why no way through the policy was open.
    private func explained(
        _ error: TPMError?, _ blob: SealedBlob
    ) throws(TPMError) -> TPMError {
        let changed = try changedRegisters(blob)
        if !changed.isEmpty {
            let list = Set(changed.map(\.index)).sorted().map { String($0.rawValue) }
            return TPMError(
                .pcrsChanged, "PCR \(list.joined(separator: ", ")) changed since it was sealed",
                returnCode: error?.returnCode)
        }
        guard let error else {
            return TPMError(.policyNotMet, "the policy has no way to open it")
        }
        if error.code == .bootStateNotApproved {
            return TPMError(
                .policyNotMet,
                "no signature that was given is about the PCR values that there are now: give one with --approval"
            )
        }
        guard error.code == .refused else { return error }
        return TPMError(
            .policyNotMet,
            "a condition does not hold: \(blob.policy.sentence)", command: error.command,
            returnCode: error.returnCode)
    }

    /// The PCRs whose values are not those of the sealing.
    private func changedRegisters(
        _ blob: SealedBlob
    ) throws(TPMError) -> [PCRValues.Register] {
        var changed: [PCRValues.Register] = []
        for register in blob.pcrValues.values.keys.sorted() {
            let present = try readPCRs(PCRSelection(register.hash, [register.index]))
            if present[register.hash, register.index] != blob.pcrValues.values[register] {
                changed.append(register)
            }
        }
        return changed
    }
}

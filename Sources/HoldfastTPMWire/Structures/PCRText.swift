import HoldfastCrypto

extension PCRSelection {
    /// Reads a selection as `tpm2-tools` writes it: `sha256:0,1,7+sha384:7`.
    ///
    /// A list without a bank, `0,1,7`, is of the SHA-256 bank.
    ///
    /// - Returns: `nil` when it is not of that form, selects nothing, or names a bank or a PCR
    ///   twice.
    public init?(text: String) {
        var selections: [PCRSelection] = []
        var seen: Set<HashAlgorithm> = []
        for part in text.split(separator: "+", omittingEmptySubsequences: false) {
            let pieces = part.split(separator: ":", omittingEmptySubsequences: false)
            guard pieces.count <= 2, let list = pieces.last else { return nil }
            var hash = HashAlgorithm.sha256
            if pieces.count == 2 {
                guard let named = HashAlgorithm.allCases.first(where: { $0.name == pieces[0] })
                else { return nil }
                hash = named
            }
            guard seen.insert(hash).inserted else { return nil }
            var indexes: Set<PCRIndex> = []
            for number in list.split(separator: ",", omittingEmptySubsequences: false) {
                guard let value = UInt8(number), let index = PCRIndex(rawValue: value),
                    indexes.insert(index).inserted
                else { return nil }
            }
            selections.append(PCRSelection(hash, indexes.sorted()))
        }
        self.init(joining: selections)
    }

    /// The selection as `tpm2-tools` reads it.
    public var text: String {
        banks.map { bank in
            bank.hash.name + ":" + bank.indexes.map { String($0.rawValue) }.joined(separator: ",")
        }.joined(separator: "+")
    }
}

extension PCRValues {
    /// The values as `tpm2_pcrread` prints them.
    public var yaml: String {
        var text = ""
        var bank: HashAlgorithm?
        for register in values.keys.sorted() {
            if bank != register.hash {
                text += "\(register.hash.name):\n"
                bank = register.hash
            }
            let digits = hexadecimal(values[register] ?? []).uppercased()
            let number = String(register.index.rawValue)
            let padding = number.count == 1 ? " " : ""
            text += "  \(number)\(padding): 0x\(digits)\n"
        }
        return text
    }
}

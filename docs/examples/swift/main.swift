import HoldfastGuard

// Usage: holdfast-example VENDOR STATE TPM; a product has the vendor's id in its source.
let license = Guard(
    vendor: CommandLine.arguments[1], product: "scanner", state: CommandLine.arguments[2],
    tpm: CommandLine.arguments[3])

let decision = license.check("scan")
print(decision.allowed ? "scanning" : "not scanning: \(decision.message)")
if let advice = decision.advice { print("to do: \(advice)") }

if decision.allowed {
    try license.meter("scan", 2)
    print("metered")
    let key = try license.secret(for: "scan")
    print("a secret of \(key.count) bytes")
}

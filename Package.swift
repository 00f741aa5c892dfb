// swift-tools-version: 6.3
import PackageDescription

/// Whether `make fuzz` builds.
///
/// The compiler counts then which branches an input takes, and only the program that links
/// libFuzzer can be linked. So it is no part of an ordinary build.
let isFuzzing = Context.environment["HOLDFAST_FUZZ"] != nil

/// Settings of every Swift target of ours: what is unsafe is marked, and a warning is an error.
let strict: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .strictMemorySafety(),
        .treatAllWarnings(as: .error),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    ] + (isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer"])] : [])

func library(
    _ name: String, _ dependencies: [Target.Dependency] = [], linker: [LinkerSetting] = []
) -> Target {
    .target(
        name: name, dependencies: dependencies, swiftSettings: strict, linkerSettings: linker)
}

func executable(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies + [argumentParser], swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")
let argumentParser: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser")

let asn1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let grdbSQLite: Target.Dependency = .product(name: "GRDBSQLite", package: "GRDB.swift")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore: Target.Dependency = .product(
    name: "HummingbirdCore", package: "hummingbird")
let hummingbirdTLS: Target.Dependency = .product(
    name: "HummingbirdTLS", package: "hummingbird")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")

let package = Package(
    name: "holdfast",
    products: [
        .executable(name: "holdfast", targets: ["holdfast"]),
        .executable(name: "holdfast-bench", targets: ["holdfast-bench"]),
        .executable(name: "holdfast-demo", targets: ["holdfast-demo"]),
        .executable(name: "holdfast-server", targets: ["holdfast-server"]),
        .executable(name: "holdfast-sim", targets: ["holdfast-sim"]),
        .library(name: "HoldfastGuard", targets: ["HoldfastGuard"]),
        .library(name: "HoldfastLibrary", type: .dynamic, targets: ["HoldfastLibrary"]),
        .executable(name: "holdfast-soak", targets: ["holdfast-soak"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(
            url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(
            name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(
            name: "CTSS2", pkgConfig: "tss2-tctildr tss2-rc", providers: [.apt(["libtss2-dev"])]),
        .systemLibrary(
            name: "CTSS2Marshalling", pkgConfig: "tss2-mu", providers: [.apt(["libtss2-dev"])]),
        .systemLibrary(
            name: "CUdev", pkgConfig: "libudev", providers: [.apt(["libudev-dev"])]),

        library("HoldfastErrors"),
        library("HoldfastFiles", ["HoldfastErrors"]),
        library("HoldfastCrypto", ["CSodium", crypto, cryptoExtras]),
        library("HoldfastTPMWire", ["HoldfastCrypto"]),
        library("HoldfastProtocol", ["HoldfastCrypto", "HoldfastErrors", "HoldfastTPMWire"]),
        library("HoldfastTPM", ["HoldfastCrypto", "HoldfastErrors", "HoldfastTPMWire"]),
        library(
            "HoldfastLicensing",
            ["HoldfastCrypto", "HoldfastProtocol", "HoldfastTPMWire"]),
        library(
            "HoldfastDevice",
            [
                "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles", "HoldfastLicensing",
                "HoldfastProtocol", "HoldfastTPM", "HoldfastTPMWire", grdb,
            ]),
        library(
            "HoldfastSync",
            [
                "CCurl", "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors", "HoldfastProtocol",
                "HoldfastTPM",
            ]),
        library("HoldfastTCTI", ["CTSS2", "HoldfastTPM"]),
        library(
            "HoldfastGuard",
            [
                "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors", "HoldfastLicensing",
                "HoldfastProtocol", "HoldfastTCTI", "HoldfastTPM",
            ]),
        library(
            "HoldfastHardware",
            ["CUdev", "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles", "HoldfastProtocol"]),
        .target(name: "CHoldfast"),
        library(
            "HoldfastLibrary",
            [
                "CHoldfast", "HoldfastCrypto", "HoldfastErrors", "HoldfastGuard",
                "HoldfastLicensing",
            ],
            linker: [
                // The second folder is where `make sdk` puts the runtime.
                .unsafeFlags([
                    "-Xlinker", "-soname=libholdfast.so.0", "-Xlinker", "-rpath",
                    "-Xlinker", "$ORIGIN/holdfast",
                ])
            ]),
        library(
            "HoldfastSoftwareTPM",
            ["HoldfastCrypto", "HoldfastErrors", "HoldfastTPM", "HoldfastTPMWire"]),
        library(
            "HoldfastStage",
            [
                "HoldfastAttestation", "HoldfastCrypto", "HoldfastDevice", "HoldfastFiles",
                "HoldfastGuard", "HoldfastLicensing", "HoldfastProtocol", "HoldfastServer",
                "HoldfastServices", "HoldfastSoftwareTPM", "HoldfastSync", "HoldfastTPM",
                "HoldfastTPMWire", crypto, cryptoExtras, grdb, grdbSQLite,
            ]),
        library("HoldfastConsole", ["HoldfastCrypto", "HoldfastErrors", argumentParser]),

        executable(
            "holdfast",
            [
                "HoldfastConsole", "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors",
                "HoldfastFiles", "HoldfastHardware", "HoldfastLicensing", "HoldfastProtocol",
                "HoldfastSync", "HoldfastTCTI", "HoldfastTPM", "HoldfastTPMWire",
            ]),
        executable(
            "holdfast-sim",
            [
                "HoldfastConsole", "HoldfastCrypto", "HoldfastFiles", "HoldfastSoftwareTPM",
                "HoldfastTPMWire",
            ]),
        library(
            "HoldfastAttestation",
            [
                "HoldfastCrypto", "HoldfastErrors", "HoldfastProtocol", "HoldfastTPMWire", crypto,
                asn1, x509,
            ]),
        library(
            "HoldfastServices",
            [
                "HoldfastAttestation", "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles",
                "HoldfastLicensing", "HoldfastProtocol", "HoldfastTPMWire",
            ]),
        library(
            "HoldfastServer",
            [
                "HoldfastCrypto", "HoldfastErrors", "HoldfastFiles", "HoldfastProtocol",
                "HoldfastServices", "HoldfastTPMWire", asn1, crypto, grdb, httpTypes, hummingbird,
                hummingbirdCore, hummingbirdTLS, nioCore, nioSSL, x509,
            ]),
        executable(
            "holdfast-server",
            [
                "HoldfastAttestation", "HoldfastConsole", "HoldfastCrypto", "HoldfastErrors",
                "HoldfastFiles", "HoldfastProtocol", "HoldfastServer", "HoldfastServices",
                "HoldfastTPMWire",
            ]),
        .executableTarget(
            name: "holdfast-example", dependencies: ["HoldfastGuard"], path: "docs/examples/swift",
            swiftSettings: [.swiftLanguageMode(.v6)]),
        library(
            "HoldfastFuzz",
            [
                "HoldfastAttestation", "HoldfastCrypto", "HoldfastProtocol", "HoldfastServices",
                "HoldfastTPM", "HoldfastTPMWire", asn1, crypto, x509,
            ]),
        executable("holdfast-bench", ["HoldfastConsole", "HoldfastFiles", "HoldfastStage"]),
        executable("holdfast-demo", ["HoldfastConsole", "HoldfastErrors", "HoldfastStage"]),
        executable("holdfast-soak", ["HoldfastConsole", "HoldfastErrors", "HoldfastStage"]),

        tests("HoldfastCryptoTests", ["HoldfastCrypto", cryptoExtras]),
        tests(
            "HoldfastDeviceTests",
            [
                "HoldfastCrypto", "HoldfastDevice", "HoldfastFiles", "HoldfastProtocol",
                "HoldfastSoftwareTPM", "HoldfastStage", "HoldfastTPM", "HoldfastTPMWire", grdb,
            ]),
        tests(
            "HoldfastAttestationTests",
            [
                "HoldfastAttestation", "HoldfastCrypto", "HoldfastProtocol", "HoldfastSoftwareTPM",
                "HoldfastStage", "HoldfastTPM", "HoldfastTPMWire", asn1, crypto, cryptoExtras,
                x509,
            ]),
        tests(
            "HoldfastServicesTests",
            ["HoldfastCrypto", "HoldfastFiles", "HoldfastProtocol", "HoldfastServices"]),
        tests(
            "HoldfastLicensingTests",
            [
                "HoldfastCrypto", "HoldfastFuzz", "HoldfastLicensing", "HoldfastProtocol",
                "HoldfastTPMWire",
            ]),
        tests(
            "HoldfastServerTests",
            [
                "HoldfastAttestation", "HoldfastCrypto", "HoldfastDevice", "HoldfastFiles",
                "HoldfastLicensing", "HoldfastProtocol", "HoldfastServer", "HoldfastServices",
                "HoldfastSoftwareTPM", "HoldfastStage", "HoldfastTPM", "HoldfastTPMWire", grdb,
            ]),
        tests(
            "HoldfastHardwareTests",
            [
                "HoldfastCrypto", "HoldfastHardware", "HoldfastLicensing", "HoldfastProtocol",
                "HoldfastSoftwareTPM", "holdfast", "holdfast-server",
            ]),
        .testTarget(
            name: "HoldfastFuzzTests", dependencies: ["HoldfastFuzz", "HoldfastStage"],
            exclude: ["Regressions"], swiftSettings: strict),
        tests("HoldfastProtocolTests", ["HoldfastCrypto", "HoldfastProtocol", "HoldfastTPMWire"]),
        tests("HoldfastTPMWireTests", ["HoldfastCrypto", "HoldfastStage", "HoldfastTPMWire"]),
        tests(
            "HoldfastTPMTests",
            [
                "CTSS2Marshalling", "HoldfastAttestation", "HoldfastCrypto", "HoldfastErrors",
                "HoldfastFuzz", "HoldfastProtocol",
                "HoldfastSoftwareTPM", "HoldfastStage", "HoldfastTCTI", "HoldfastTPM",
                "HoldfastTPMWire", crypto, cryptoExtras,
            ]),
        tests(
            "HoldfastProgramTests",
            [
                "HoldfastCrypto", "HoldfastDevice", "HoldfastErrors", "HoldfastFiles",
                "HoldfastProtocol", "HoldfastServer", "HoldfastServices", "HoldfastSoftwareTPM",
                "HoldfastSync", "HoldfastGuard", "HoldfastLibrary", "HoldfastLicensing",
                "HoldfastStage", "HoldfastTPM", "HoldfastTPMWire", "holdfast", "holdfast-example",
                "holdfast-server",
            ]),
        tests("TidyTests", []),
    ]
)

if isFuzzing {
    let fuzzer = executable("holdfast-fuzz", ["CLibFuzzer", "HoldfastFuzz"])
    // libFuzzer reads the arguments.
    fuzzer.dependencies.removeLast()
    // lld: the default linker of the toolchain fails on the tables that the counters need.
    fuzzer.linkerSettings = [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]
    package.targets += [.systemLibrary(name: "CLibFuzzer"), fuzzer]
    package.products.append(.executable(name: "holdfast-fuzz", targets: ["holdfast-fuzz"]))
}

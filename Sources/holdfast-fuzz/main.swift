import CLibFuzzer
import Foundation
import Glibc
import HoldfastFuzz

/// What is fuzzed, by `HOLDFAST_FUZZ_TARGET`; the arguments are those of libFuzzer.
nonisolated(unsafe) private var target: FuzzTarget?

private func fail(_ text: String) -> Never {
    FileHandle.standardError.write(Data((text + "\n").utf8))
    exit(64)
}

/// Reads one input; what does not hold ends the program, which the fuzzer takes for a crash.
private func run(_ bytes: [UInt8]) {
    guard let target = unsafe target else { return }
    do {
        if target.isImmediate {
            _ = try target.check(bytes)
        } else {
            let done = DispatchSemaphore(value: 0)
            Task.detached {
                do { _ = try await target.checkWaiting(bytes) } catch { fatalError("\(error)") }
                done.signal()
            }
            done.wait()
        }
    } catch {
        fatalError("\(error)")
    }
}

let arguments = CommandLine.arguments
switch arguments.dropFirst().first {
case "list": for target in FuzzTarget.all { print(target.name, target.maximumSize) }
case "seeds":
    // The inputs to start from, a folder for each target.
    guard arguments.count == 3 else { fail("usage: holdfast-fuzz seeds DIRECTORY") }
    for target in FuzzTarget.all {
        let folder = URL(filePath: arguments[2]).appending(path: target.name)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for (number, seed) in try target.seeds().enumerated() {
            try Data(seed).write(to: folder.appending(path: "seed-\(number)"))
        }
    }
default:
    let name = ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_TARGET"] ?? ""
    guard let found = FuzzTarget.all.first(where: { $0.name == name }) else {
        fail("HOLDFAST_FUZZ_TARGET is none of those that `holdfast-fuzz list` prints")
    }
    unsafe target = found
    var count = CommandLine.argc
    var values: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv
    let status = unsafe LLVMFuzzerRunDriver(&count, &values) { data, size in
        unsafe run([UInt8](UnsafeBufferPointer(start: data, count: size)))
        return 0
    }
    exit(status)
}

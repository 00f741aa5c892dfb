import Foundation
import Glibc
import HoldfastSoftwareTPM
import HoldfastTPMWire
import Testing

/// Commands as bytes over a descriptor, so that these tests need no command layer.
private final class RawTPM: Sendable {
    let descriptor: Int32
    /// Kept, because swtpm ends with its owner.
    private let process: SoftwareTPMProcess?

    init(_ connection: SoftwareTPMProcess.Connection, keepsProcess: Bool = true) {
        descriptor = connection.fileDescriptor
        process = keepsProcess ? connection.process : nil
    }

    init?(connectingTo path: String) {
        process = nil
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { buffer in
            unsafe buffer.copyBytes(from: path.utf8)
        }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, size)
            }
        }
        if result != 0 { return nil }
    }

    deinit { close(descriptor) }

    /// The other side sees the end of the stream; the number stays ours until we go.
    func hangUp() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// - Returns: `nil` when the stream ended.
    func send(_ code: UInt16, _ parameters: [UInt8]) -> [UInt8]? {
        let size = UInt8(10 + parameters.count)
        let command: [UInt8] =
            [0x80, 0x01, 0, 0, 0, size, 0, 0, UInt8(code >> 8), UInt8(code & 0xFF)] + parameters
        guard
            unsafe Glibc.send(descriptor, command, command.count, Int32(MSG_NOSIGNAL))
                == command.count
        else { return nil }
        var answer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe recv(descriptor, &answer, answer.count, 0)
        return count > 0 ? Array(answer[..<count]) : nil
    }

    /// The return code of `TPM2_GetRandom`, which wants a TPM that was started.
    func getRandom() -> [UInt8]? {
        send(0x017B, [0, 8]).map { Array($0[6..<10]) }
    }

    /// Persistent objects, NV indices or active banks.
    func capability(_ capability: UInt8, _ property: UInt32) -> [UInt8]? {
        let first = (0..<4).map { UInt8(truncatingIfNeeded: property >> (24 - 8 * $0)) }
        return send(0x017A, [0, 0, 0, capability] + first + [0, 0, 0, 64])
    }
}

/// A directory that goes away with the test.
private final class Scratch {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "hf-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func newState(_ name: String = "state") throws -> String {
        let state = path + "/" + name
        try SoftwareTPMTemplate.shared().state.write(to: state)
        return state
    }

    /// A machine that is switched off when the test is over.
    func newMachine(_ name: String = "machine") throws -> SoftwareMachine {
        let machine = try SoftwareMachine(directory: path + "/" + name)
        let template = try SoftwareTPMTemplate.shared()
        try machine.install(template.state, roots: template.roots)
        return machine
    }
}

private let success: [UInt8] = [0, 0, 0, 0]

private func exists(_ process: Int32) -> Bool { kill(process, 0) == 0 }

private func code(_ body: () throws -> Void) -> SoftwareTPMError.Code? {
    do {
        try body()
        return nil
    } catch {
        return (error as? SoftwareTPMError)?.code
    }
}

@Suite("software TPM on a socket pair", .timeLimit(.minutes(20)))
struct SoftwareTPMProcessTests {
    @Test("answers at once, and ends when its connection is closed")
    func hangUp() throws {
        let scratch = try Scratch()
        let connection = try SoftwareTPMProcess.spawnOnSocketPair(state: try scratch.newState())
        let tpm = RawTPM(connection)
        #expect(tpm.getRandom() == success)
        #expect(connection.process.isRunning)
        #expect(code { try connection.process.wait(milliseconds: 0) } == .timedOut)
        tpm.hangUp()
        #expect(try connection.process.wait(milliseconds: 10_000) == .exited(0))
        #expect(!connection.process.isRunning)
    }

    @Test("a cut ends it in the middle, and its state starts again")
    func cut() throws {
        let scratch = try Scratch()
        let state = try scratch.newState()
        for _ in 0..<3 {
            let connection = try SoftwareTPMProcess.spawnOnSocketPair(state: state)
            let tpm = RawTPM(connection)
            #expect(tpm.getRandom() == success)
            connection.process.cut()
            #expect(!exists(connection.process.processID))
            #expect(try connection.process.wait(milliseconds: 0) == .signalled(SIGKILL))
            #expect(tpm.getRandom() == nil)
            connection.process.cut()
        }
    }

    @Test("the child goes with its owner")
    func deinitReaps() throws {
        let scratch = try Scratch()
        var connection: SoftwareTPMProcess.Connection? =
            try SoftwareTPMProcess.spawnOnSocketPair(state: try scratch.newState())
        let child = try #require(connection?.process.processID)
        let tpm = RawTPM(try #require(connection), keepsProcess: false)
        #expect(tpm.getRandom() == success)
        #expect(exists(child))
        connection = nil
        #expect(!exists(child))
        #expect(tpm.getRandom() == nil)
    }

    @Test("forty at once, of one template, each on its own")
    func parallel() async throws {
        let scratch = try Scratch()
        let states = try (0..<40).map { try scratch.newState("state\($0)") }
        let answers = try await withThrowingTaskGroup { group in
            for state in states {
                group.addTask {
                    let connection = try SoftwareTPMProcess.spawnOnSocketPair(state: state)
                    let tpm = RawTPM(connection)
                    let answered = tpm.getRandom() == success
                    tpm.hangUp()
                    return try connection.process.wait(milliseconds: 60_000) == .exited(0)
                        && answered
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers == [Bool](repeating: true, count: 40))
    }

    @Test("a state that is in use or damaged is a start failure that says why")
    func startFailure() throws {
        let scratch = try Scratch()
        let state = try scratch.newState()
        let first = try SoftwareTPMProcess.spawnOnSocketPair(state: state)
        let tpm = RawTPM(first)
        #expect(tpm.getRandom() == success)
        let second = try SoftwareTPMProcess.spawnOnSocketPair(state: state)
        let other = RawTPM(second)
        #expect(other.getRandom() == nil)
        #expect(try second.process.wait(milliseconds: 10_000) == .exited(1))
        #expect(second.process.startFailure().code == .startFailed)
        #expect(second.process.startFailure().message.contains("lock"))
        #expect(tpm.getRandom() == success)

        let damaged = try scratch.newState("damaged")
        let file = damaged + "/tpm2-00.permall"
        var bytes = try #require(FileManager.default.contents(atPath: file))
        bytes[bytes.startIndex + 100] ^= 0xFF
        try bytes.write(to: URL(filePath: file))
        let third = try SoftwareTPMProcess.spawnOnSocketPair(state: damaged)
        let broken = RawTPM(third)
        #expect(broken.getRandom() != success)
        third.process.cut()
    }

    @Test("paths that swtpm would misread are refused before it starts")
    func paths() throws {
        for path in [
            "state", "./state", "", "/tmp/a,b", "/tmp/a #b", "/tmp/a\nb", "/tmp/../nowhere/..",
        ] {
            let error = code { _ = try SoftwareTPMProcess.spawnOnSocketPair(state: path) }
            #expect(error != nil && error != .startFailed, "\(path)")
        }
        #expect(code { _ = try SoftwareTPMManufacture(ca: "relative") } == .pathNotAccepted)
        #expect(
            code { _ = try SoftwareTPMManufacture(ca: "/var/lib/swtpm-localca") }
                == .pathNotAccepted)
        let scratch = try Scratch()
        #expect(
            code { _ = try SoftwareTPMProcess.spawnOnSocketPair(state: scratch.path) }
                == .notManufactured)
        #expect(
            code { _ = try SoftwareTPMProcess.spawnOnSocketPair(state: scratch.path + "/no") }
                == .notManufactured)
    }

    @Test("an error says what to do, also through Foundation")
    func errorText() throws {
        let scratch = try Scratch()
        let error = try #require(throws: SoftwareTPMError.self) {
            try SoftwareTPMProcess.spawnOnSocketPair(state: scratch.path)
        }
        #expect(error.description.contains("\nhint: make one with `holdfast-sim tpm start`"))
        #expect(error.localizedDescription == error.description)
        #expect(error.description.split(separator: "\n").count == 2)
    }
}

@Suite("software TPM manufacture", .timeLimit(.minutes(20)))
struct SoftwareTPMManufactureTests {
    @Test("has both endorsement keys with certificates, and the SHA-256 and SHA-384 banks")
    func content() throws {
        let scratch = try Scratch()
        let connection = try SoftwareTPMProcess.spawnOnSocketPair(state: try scratch.newState())
        let tpm = RawTPM(connection)
        func handles(_ first: UInt32) throws -> [UInt8] {
            Array(try #require(tpm.capability(1, first)).dropFirst(19))
        }
        #expect(try handles(0x8100_0000) == [0x81, 1, 0, 1, 0x81, 1, 0, 0x16])
        #expect(try handles(0x0100_0000) == [1, 0xC0, 0, 2, 1, 0xC0, 0, 0x16, 1, 0xC0, 0x80, 0])
        for kind in EKKind.allCases {
            let persistent = try handles(kind.handle.rawValue).prefix(4)
            #expect(persistent.last == UInt8(kind.handle.rawValue & 0xFF))
            let index = try handles(kind.certificateIndex.rawValue).prefix(4)
            #expect(index.last == UInt8(kind.certificateIndex.rawValue & 0xFF))
        }
        let all: [UInt8] = [3, 0xFF, 0xFF, 0xFF]
        let none: [UInt8] = [3, 0, 0, 0]
        // TPML_PCR_SELECTION: SHA-1, SHA-256, SHA-384, SHA-512.
        let banks = Array(try #require(tpm.capability(5, 0)).dropFirst(15))
        #expect(
            banks == [0, 0, 0, 4] + [0, 0x04] + none + [0, 0x0B] + all + [0, 0x0C] + all
                + [0, 0x0D] + none)
    }

    @Test("two TPMs made at once share an authority and nothing else")
    func sharedAuthority() async throws {
        let scratch = try Scratch()
        let path = scratch.path
        let manufacture = try SoftwareTPMManufacture(ca: path + "/ca")
        try await withThrowingTaskGroup { group in
            for name in ["a", "b"] {
                group.addTask {
                    try manufacture.manufacture(
                        state: "\(path)/\(name)/state", roots: "\(path)/\(name)/ek-roots")
                }
            }
            try await group.waitForAll()
        }
        func file(_ name: String) throws -> Data {
            try #require(FileManager.default.contents(atPath: path + "/" + name), "\(name)")
        }
        for name in ["root.pem", "intermediate.pem"] {
            #expect(try file("a/ek-roots/" + name) == file("b/ek-roots/" + name))
            #expect(
                String(decoding: try file("a/ek-roots/" + name), as: UTF8.self)
                    .contains("-----BEGIN CERTIFICATE-----"))
        }
        #expect(try file("a/ek-roots/root.pem") != file("a/ek-roots/intermediate.pem"))
        #expect(try file("a/state/tpm2-00.permall") != file("b/state/tpm2-00.permall"))
        // The authority of the template is another one.
        #expect(
            try SoftwareTPMTemplate.shared().roots["root.pem"].map { Data($0) }
                != file("a/ek-roots/root.pem"))
        // A second TPM in the same place would destroy the first.
        let before = try file("a/state/tpm2-00.permall")
        #expect(
            code { try manufacture.manufacture(state: path + "/a/state", roots: path + "/r") }
                == .alreadyManufactured)
        #expect(try file("a/state/tpm2-00.permall") == before)
    }

    @Test("a failed manufacture leaves no TPM, and says so")
    func failure() throws {
        let scratch = try Scratch()
        // An authority whose key is no key.
        let ca = scratch.path + "/ca"
        try FileManager.default.createDirectory(atPath: ca, withIntermediateDirectories: true)
        for name in ["signkey.pem", "issuercert.pem"] {
            try Data("nothing".utf8).write(to: URL(filePath: ca + "/" + name))
        }
        let manufacture = try SoftwareTPMManufacture(ca: ca)
        let state = scratch.path + "/state"
        #expect(
            code { try manufacture.manufacture(state: state, roots: scratch.path + "/r") }
                == .manufactureFailed)
        #expect(code { _ = try SoftwareTPMState(reading: state) } == .notManufactured)
        #expect(code { try manufacture.writeRoots(to: scratch.path + "/r") } == .manufactureFailed)
    }

    @Test("a copy is the same TPM, and overwrites none")
    func copy() throws {
        let scratch = try Scratch()
        let source = try scratch.newState()
        let copy = scratch.path + "/copy/deep"
        try SoftwareTPMState.copyState(from: source, to: copy)
        let files = FileManager.default
        #expect(
            files.contents(atPath: source + "/tpm2-00.permall")
                == files.contents(atPath: copy + "/tpm2-00.permall"))
        let connection = try SoftwareTPMProcess.spawnOnSocketPair(state: copy)
        let tpm = RawTPM(connection)
        #expect(tpm.getRandom() == success)
        #expect(
            code { try SoftwareTPMState.copyState(from: source, to: copy) }
                == .alreadyManufactured)
        #expect(
            code { try SoftwareTPMState.copyState(from: scratch.path, to: scratch.path + "/x") }
                == .notManufactured)
        let state = try SoftwareTPMTemplate.shared().state
        #expect("\(state)".hasSuffix("not shown)"))
    }
}

@Suite("software machine", .timeLimit(.minutes(20)))
struct SoftwareMachineTests {
    @Test("starts, answers, stops, and starts again")
    func life() throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        #expect(try !machine.isRunning())
        for _ in 0..<2 {
            try machine.launch()
            #expect(try machine.isRunning())
            // One client after another: hanging up does not end it.
            for _ in 0..<3 {
                let tpm = try #require(RawTPM(connectingTo: machine.socketPath))
                #expect(tpm.getRandom() == success)
            }
            let process = try #require(try machine.runningProcess())
            try machine.terminate()
            #expect(try !machine.isRunning())
            #expect(!exists(process) || isZombie(process))
            #expect(RawTPM(connectingTo: machine.socketPath) == nil)
        }
        #expect(code { try machine.terminate() } == .notRunning)
        #expect(code { try machine.kill() } == .notRunning)
    }

    /// Where nobody collects orphans, as in some containers, the process table keeps them.
    private func isZombie(_ process: Int32) -> Bool {
        FileManager.default.contents(atPath: "/proc/\(process)/cmdline")?.isEmpty ?? true
    }

    @Test("a cut is immediate, also with a client, and what it leaves behind is cleared")
    func cut() throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        try machine.launch()
        let tpm = try #require(RawTPM(connectingTo: machine.socketPath))
        #expect(tpm.getRandom() == success)
        try machine.kill()
        #expect(tpm.getRandom() == nil)
        #expect(code { try machine.kill() } == .notRunning)
        try machine.launch()
        defer { try? machine.kill() }
        let again = try #require(RawTPM(connectingTo: machine.socketPath))
        #expect(again.getRandom() == success)
    }

    @Test("an end that nobody told us about is noticed, with its process file and sockets")
    func ungraceful() throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        try machine.launch()
        let process = try #require(try machine.runningProcess())
        kill(process, SIGKILL)
        // The number stays in the file; the process is gone once its arguments are.
        while !isZombie(process) { sched_yield() }
        #expect(FileManager.default.fileExists(atPath: machine.path + "/swtpm.pid"))
        #expect(try !machine.isRunning())
        #expect(code { try machine.terminate() } == .notRunning)
        try machine.launch()
        #expect(try machine.runningProcess() != process)
        try machine.kill()
    }

    @Test("a process file that names somebody else harms nobody")
    func stalePID() throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        let file = URL(filePath: machine.path + "/swtpm.pid")
        // Ourselves, another machine's TPM, and what is no number.
        let other = try scratch.newMachine("other")
        try other.launch()
        defer { try? other.kill() }
        let stranger = try #require(try other.runningProcess())
        for text in ["\(getpid())", "\(stranger)\n", "1", "0", "-1", "x", ""] {
            try Data(text.utf8).write(to: file)
            #expect(try !machine.isRunning(), "\(text)")
            #expect(code { try machine.kill() } == .notRunning, "\(text)")
        }
        try Data("\(stranger)".utf8).write(to: file)
        try machine.launch()
        try machine.terminate()
        #expect(try other.runningProcess() == stranger)
    }

    @Test("a second start leaves the first alone, even when its process file is lost")
    func secondStart() throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        try machine.launch()
        defer { try? machine.kill() }
        let process = try machine.runningProcess()
        #expect(code { try machine.launch() } == .alreadyRunning)
        try FileManager.default.removeItem(atPath: machine.path + "/swtpm.pid")
        #expect(code { try machine.launch() } == .alreadyRunning)
        #expect(try machine.runningProcess() == process)
        // Under another name of the same directory, too.
        let link = scratch.path + "/link"
        try FileManager.default.createSymbolicLink(
            atPath: link, withDestinationPath: machine.path)
        let alias = try SoftwareMachine(directory: link + "/")
        #expect(code { try alias.launch() } == .alreadyRunning)
        let tpm = try #require(RawTPM(connectingTo: machine.socketPath))
        #expect(tpm.getRandom() == success)
    }

    @Test("of many starts at once one wins")
    func race() async throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        defer { try? machine.kill() }
        let outcomes = await withTaskGroup { group in
            for _ in 0..<4 {
                group.addTask { code { try machine.launch() } }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(outcomes.count { $0 == nil } == 1)
        #expect(outcomes.count { $0 == .alreadyRunning } == 3)
    }

    @Test("tpm2-tools reach it under the same path")
    func tools() throws {
        let scratch = try Scratch()
        let machine = try scratch.newMachine()
        try machine.launch()
        defer { try? machine.kill() }
        for arguments in [["tpm2_getrandom", "--hex", "8"], ["tpm2_pcrread", "sha256:0"]] {
            let tool = Process()
            tool.executableURL = URL(filePath: "/usr/bin/env")
            tool.arguments = arguments + ["-T", "swtpm:path=" + machine.socketPath]
            tool.standardOutput = FileHandle.nullDevice
            try tool.run()
            tool.waitUntilExit()
            #expect(tool.terminationStatus == 0)
        }
        #expect(try machine.isRunning())
    }

    @Test("a machine is made once, with its certificates and for its owner only")
    func manufacture() throws {
        let scratch = try Scratch()
        let machine = try SoftwareMachine(directory: scratch.path + "/new/machine")
        #expect(!machine.isManufactured)
        #expect(code { try machine.launch() } == .notManufactured)
        #expect(code { try machine.terminate() } == .notRunning)
        #expect(!FileManager.default.fileExists(atPath: machine.path))
        try machine.manufacture(ca: scratch.path + "/ca")
        #expect(machine.isManufactured)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: machine.rootsPath).sorted()
                == ["intermediate.pem", "root.pem"])
        #expect(code { try machine.manufacture(ca: nil) } == .alreadyManufactured)
        try machine.launch()
        defer { try? machine.kill() }
        for (path, mode) in [
            (machine.path, 0o700), (machine.statePath, 0o700), (machine.socketPath, 0o600),
            (machine.controlSocketPath, 0o600),
        ] {
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            #expect(attributes[.posixPermissions] as? Int == mode, "\(path)")
        }
    }

    @Test("a directory that cannot serve is refused")
    func directories() throws {
        let scratch = try Scratch()
        let long = scratch.path + "/" + String(repeating: "x", count: 93)
        #expect(code { _ = try SoftwareMachine(directory: long) } == .socketPathTooLong)
        #expect(code { _ = try SoftwareMachine(directory: "machine") } == .pathNotAccepted)
        // The longest that fits works.
        let room = 107 - "/tpm.sock.ctrl".utf8.count - scratch.path.utf8.count - 1
        let longest = try scratch.newMachine(String(repeating: "y", count: room))
        try longest.launch()
        #expect(try longest.isRunning())
        try longest.kill()
        #expect(
            code {
                _ = try SoftwareMachine(
                    directory: scratch.path + "/" + String(repeating: "y", count: room + 1))
            } == .socketPathTooLong)
        // Others can write here.
        let open = scratch.path + "/open"
        try FileManager.default.createDirectory(atPath: open, withIntermediateDirectories: true)
        try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: open)
        let machine = try SoftwareMachine(directory: open)
        #expect(code { try machine.manufacture(ca: nil) } == .directoryNotPrivate)
        #expect(!machine.isManufactured)
    }
}

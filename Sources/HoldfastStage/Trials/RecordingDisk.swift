import Foundation
import GRDBSQLite
import Synchronization

/// What SQLite did to the files of a directory, in order.
enum DiskEvent: Sendable {
    case write(file: String, offset: Int, bytes: [UInt8])
    case truncate(file: String, size: Int)
    case sync(file: String)
    case delete(file: String)
    /// Something was promised to a caller, or happened elsewhere: the number of what is true now.
    case promised(Int)
}

/// A layer between SQLite and the file system that records what is written to one directory.
///
/// It is SQLite's default in this process from its first use on, and passes everything on. The
/// shared memory beside a write-ahead log is not recorded: after a power cut it is made anew.
final class RecordingDisk: Sendable {
    static let shared = RecordingDisk()

    private struct State {
        /// Directories that are recorded, with their events.
        var events: [String: [DiskEvent]] = [:]
        /// Names of open files by the number in their header.
        var names: [Int: String] = [:]
        var last = 0
    }

    private let state = Mutex(State())

    private init() { Self.install() }

    /// Begins to record a directory.
    func record(_ directory: String) { state.withLock { $0.events[directory] = [] } }

    /// What was recorded since ``record(_:)``; nothing more is.
    func take(_ directory: String) -> [DiskEvent] {
        state.withLock { $0.events.removeValue(forKey: directory) ?? [] }
    }

    /// Notes that something was promised now.
    func promise(_ number: Int, in directory: String) {
        state.withLock { $0.events[directory]?.append(.promised(number)) }
    }

    fileprivate func open(_ name: String) -> Int {
        state.withLock { state in
            guard state.events.keys.contains(where: { name.hasPrefix($0 + "/") }) else { return 0 }
            state.last += 1
            state.names[state.last] = name
            return state.last
        }
    }

    fileprivate func note(_ number: Int, _ make: (String) -> DiskEvent) {
        guard number > 0 else { return }
        state.withLock { state in
            if let name = state.names[number] { Self.append(make(name), name, &state) }
        }
    }

    fileprivate func noteDelete(_ name: String) {
        state.withLock { Self.append(.delete(file: name), name, &$0) }
    }

    private static func append(_ event: DiskEvent, _ name: String, _ state: inout State) {
        for directory in state.events.keys where name.hasPrefix(directory + "/") {
            state.events[directory]?.append(event)
        }
    }

    // MARK: The layer

    /// Before the real file: SQLite's pointer to methods, and the number of the name.
    private static let headerSize = 16

    private static func real(
        _ file: UnsafeMutablePointer<sqlite3_file>
    ) -> UnsafeMutablePointer<sqlite3_file> {
        unsafe (UnsafeMutableRawPointer(file) + headerSize)
            .assumingMemoryBound(to: sqlite3_file.self)
    }

    private static func number(_ file: UnsafeMutablePointer<sqlite3_file>) -> Int {
        unsafe (UnsafeMutableRawPointer(file) + 8).load(as: Int.self)
    }

    private static func install() {
        guard let base = unsafe sqlite3_vfs_find(nil) else { return }
        let layer = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
        unsafe layer.initialize(to: base.pointee)
        unsafe layer.pointee.zName = UnsafePointer(strdup("holdfast-recording"))
        unsafe layer.pointee.pAppData = UnsafeMutableRawPointer(base)
        unsafe layer.pointee.szOsFile = base.pointee.szOsFile + Int32(headerSize)
        unsafe layer.pointee.xOpen = { vfs, name, file, flags, out in
            guard let vfs = unsafe vfs, let file = unsafe file,
                let base = unsafe vfs.pointee.pAppData?.assumingMemoryBound(
                    to: sqlite3_vfs.self)
            else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            let code = unsafe base.pointee.xOpen(base, name, inner, flags, out)
            unsafe file.pointee.pMethods =
                inner.pointee.pMethods == nil ? nil : UnsafePointer(RecordingDisk.methods)
            let number =
                unsafe name.map { unsafe RecordingDisk.shared.open(String(cString: $0)) } ?? 0
            unsafe (UnsafeMutableRawPointer(file) + 8).storeBytes(of: number, as: Int.self)
            return code
        }
        unsafe layer.pointee.xDelete = { vfs, name, sync in
            guard
                let base = unsafe vfs?.pointee.pAppData?.assumingMemoryBound(
                    to: sqlite3_vfs.self)
            else { return SQLITE_ERROR }
            let code = unsafe base.pointee.xDelete(base, name, sync)
            if code == SQLITE_OK, let name = unsafe name {
                unsafe RecordingDisk.shared.noteDelete(String(cString: name))
            }
            return code
        }
        unsafe sqlite3_vfs_register(layer, 1)
    }

    /// Never changed after it was made.
    nonisolated(unsafe) private static let methods: UnsafeMutablePointer<sqlite3_io_methods> = {
        let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        unsafe methods.initialize(to: sqlite3_io_methods())
        // Version 2: with shared memory, without mapped files, which would not pass through here.
        unsafe methods.pointee.iVersion = 2
        unsafe methods.pointee.xClose = { file in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xClose(inner)
        }
        unsafe methods.pointee.xRead = { file, buffer, count, offset in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xRead(inner, buffer, count, offset)
        }
        unsafe methods.pointee.xWrite = { file, buffer, count, offset in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            let bytes = unsafe [UInt8](
                UnsafeRawBufferPointer(start: buffer, count: Int(count)))
            unsafe RecordingDisk.shared.note(RecordingDisk.number(file)) { name in
                .write(file: name, offset: Int(offset), bytes: bytes)
            }
            return unsafe inner.pointee.pMethods.pointee.xWrite(inner, buffer, count, offset)
        }
        unsafe methods.pointee.xTruncate = { file, size in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            unsafe RecordingDisk.shared.note(RecordingDisk.number(file)) {
                .truncate(file: $0, size: Int(size))
            }
            return unsafe inner.pointee.pMethods.pointee.xTruncate(inner, size)
        }
        unsafe methods.pointee.xSync = { file, flags in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            let code = unsafe inner.pointee.pMethods.pointee.xSync(inner, flags)
            unsafe RecordingDisk.shared.note(RecordingDisk.number(file)) { .sync(file: $0) }
            return code
        }
        unsafe methods.pointee.xFileSize = { file, size in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xFileSize(inner, size)
        }
        unsafe methods.pointee.xLock = { file, kind in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xLock(inner, kind)
        }
        unsafe methods.pointee.xUnlock = { file, kind in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xUnlock(inner, kind)
        }
        unsafe methods.pointee.xCheckReservedLock = { file, result in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xCheckReservedLock(inner, result)
        }
        unsafe methods.pointee.xFileControl = { file, operation, argument in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xFileControl(inner, operation, argument)
        }
        unsafe methods.pointee.xSectorSize = { file in
            guard let file = unsafe file else { return 0 }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xSectorSize(inner)
        }
        // No promises of the device: SQLite must work without any.
        unsafe methods.pointee.xDeviceCharacteristics = { _ in 0 }
        unsafe methods.pointee.xShmMap = { file, page, size, extend, out in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xShmMap(inner, page, size, extend, out)
        }
        unsafe methods.pointee.xShmLock = { file, offset, count, flags in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xShmLock(inner, offset, count, flags)
        }
        unsafe methods.pointee.xShmBarrier = { file in
            guard let file = unsafe file else { return }
            let inner = unsafe RecordingDisk.real(file)
            unsafe inner.pointee.pMethods.pointee.xShmBarrier(inner)
        }
        unsafe methods.pointee.xShmUnmap = { file, remove in
            guard let file = unsafe file else { return SQLITE_ERROR }
            let inner = unsafe RecordingDisk.real(file)
            return unsafe inner.pointee.pMethods.pointee.xShmUnmap(inner, remove)
        }
        return unsafe methods
    }()
}

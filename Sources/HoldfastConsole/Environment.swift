import Glibc

/// A variable of the environment, unless it is empty.
public func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
}

/// A crash must not write the counters' authorization value and the keys of sessions into a file.
public func forbidCoreDumps() {
    var none = rlimit(rlim_cur: 0, rlim_max: 0)
    unsafe setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
}

/// The TSS writes its own lines to standard error; ours say the same better.
public func silenceTSSLog() {
    if environment("TSS2_LOG") == nil { unsafe setenv("TSS2_LOG", "all+NONE", 1) }
}

/// The directory of the running program, where the others of this package are.
public func programsDirectory() -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
    let path = String(
        decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
}

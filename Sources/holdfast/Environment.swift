import Glibc

/// A variable of the environment, unless it is empty.
func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
}

/// A crash must not write the counters' authorization value and the keys of sessions into a file.
func forbidCoreDumps() {
    var none = rlimit(rlim_cur: 0, rlim_max: 0)
    unsafe setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
}

/// The TSS writes its own lines to standard error; ours say the same better.
func silenceTSSLog() {
    if environment("TSS2_LOG") == nil { unsafe setenv("TSS2_LOG", "all+NONE", 1) }
}

import Glibc

/// A variable of the environment, unless it is empty.
public func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    let text = unsafe String(cString: value)
    return text.isEmpty ? nil : text
}

/// The TSS writes its own lines to standard error; ours say the same better.
public func silenceTSSLog() {
    if environment("TSS2_LOG") == nil { unsafe setenv("TSS2_LOG", "all+NONE", 1) }
}

import CUdev
import Glibc

/// The seam to libudev: every call of it stands in this file.
///
/// A context and what comes from it stay in the thread that made it: neither is Sendable, and none
/// is stored anywhere. Devices are lent, so that nobody forgets to give one back.
@safe struct Udev: ~Copyable {
    private let context: OpaquePointer

    init() throws(HardwareError) {
        guard let context = unsafe udev_new() else { throw .udevFailed(reason(errno)) }
        unsafe self.context = context
    }

    deinit { unsafe udev_unref(context) }

    /// Paths below `/sys` of all devices of a subsystem, in order.
    func paths(subsystem: String) -> [String] {
        guard let list = unsafe udev_enumerate_new(context) else { return [] }
        defer { unsafe udev_enumerate_unref(list) }
        guard unsafe udev_enumerate_add_match_subsystem(list, subsystem) >= 0,
            unsafe udev_enumerate_scan_devices(list) >= 0
        else { return [] }
        var paths: [String] = []
        var entry = unsafe udev_enumerate_get_list_entry(list)
        while let present = unsafe entry {
            if let name = unsafe udev_list_entry_get_name(present) {
                paths.append(unsafe String(cString: name))
            }
            unsafe entry = udev_list_entry_get_next(present)
        }
        return paths.sorted()
    }

    /// Lends the device at a path below `/sys`.
    func withDevice<R>(at path: String, _ body: (borrowing UdevDevice) -> R) -> R? {
        unsafe lend(udev_device_new_from_syspath(context, path), body)
    }

    /// Lends a block device by its number.
    func withBlockDevice<R>(
        major: UInt32, minor: UInt32, _ body: (borrowing UdevDevice) -> R
    ) -> R? {
        let number = makedev(major, minor)
        return unsafe lend(
            udev_device_new_from_devnum(context, CChar(UInt8(ascii: "b")), number), body)
    }

    /// Lends a block device by its name, for example `dm-0`.
    func withBlockDevice<R>(named name: String, _ body: (borrowing UdevDevice) -> R) -> R? {
        unsafe lend(udev_device_new_from_subsystem_sysname(context, "block", name), body)
    }

    private func lend<R>(_ device: OpaquePointer?, _ body: (borrowing UdevDevice) -> R) -> R? {
        guard let device = unsafe device else { return nil }
        return body(unsafe UdevDevice(owning: device))
    }

    /// Starts to listen to what udev says of some subsystems.
    func listen(to subsystems: [String]) throws(HardwareError) -> UdevMonitor {
        guard let monitor = unsafe udev_monitor_new_from_netlink(context, "udev") else {
            throw .udevFailed(reason(errno))
        }
        var code: Int32 = 0
        for subsystem in subsystems where code >= 0 {
            code = unsafe udev_monitor_filter_add_match_subsystem_devtype(
                monitor, subsystem, nil /* devtype */)
        }
        if code >= 0 { code = unsafe udev_monitor_enable_receiving(monitor) }
        guard code >= 0 else {
            unsafe udev_monitor_unref(monitor)
            throw .udevFailed(reason(-code))
        }
        return unsafe UdevMonitor(owning: monitor)
    }
}

/// What a device says of one of its attributes.
enum Attribute: Equatable {
    case value(String)
    case absent
    /// It is there, and we may not read it, or reading it fails.
    case refused(String)
}

/// One device; given back when its owner ends.
@safe struct UdevDevice: ~Copyable {
    private let device: OpaquePointer

    fileprivate init(owning device: OpaquePointer) { unsafe self.device = device }

    deinit { unsafe udev_device_unref(device) }

    /// Where it is below `/sys`, without symbolic links.
    var path: String { unsafe text(udev_device_get_syspath(device)) ?? "" }

    var name: String { unsafe text(udev_device_get_sysname(device)) ?? "" }

    var subsystem: String { unsafe text(udev_device_get_subsystem(device)) ?? "" }

    /// The kernel made it up: there is no hardware behind it.
    var isVirtual: Bool { path.contains("/devices/virtual/") }

    /// - Parameter name: may lead through directories, for example `device/serial`.
    func attribute(_ name: String) -> Attribute {
        errno = 0
        if let value = unsafe text(udev_device_get_sysattr_value(device, name)) {
            return .value(value)
        }
        return switch errno {
        case 0, ENOENT, ENODEV, ENXIO, ENOTDIR, EISDIR, EINVAL, EOPNOTSUPP: .absent
        default: .refused(reason(errno))
        }
    }

    /// The value of an attribute, when there is one.
    func value(_ name: String) -> String? {
        guard case .value(let value) = attribute(name) else { return nil }
        return value
    }

    /// What udev's database says, when there is one.
    func property(_ name: String) -> String? {
        unsafe text(udev_device_get_property_value(device, name))
    }

    /// Whether it hangs on something of a subsystem, for example `usb`.
    func isBelow(_ subsystem: String) -> Bool {
        // What it returns belongs to the device.
        unsafe udev_device_get_parent_with_subsystem_devtype(
            device, subsystem, nil /* devtype */) != nil
    }

    /// The path of the device above it.
    var parentPath: String? {
        guard let parent = unsafe udev_device_get_parent(device) else { return nil }
        return unsafe text(udev_device_get_syspath(parent))
    }
}

/// Listens to udev; closed when its owner ends.
@safe struct UdevMonitor: ~Copyable {
    private let monitor: OpaquePointer

    fileprivate init(owning monitor: OpaquePointer) { unsafe self.monitor = monitor }

    deinit { unsafe udev_monitor_unref(monitor) }

    /// Readable when there is something to receive.
    var descriptor: Int32 { unsafe udev_monitor_get_fd(monitor) }

    /// Takes one event without waiting.
    ///
    /// - Returns: the subsystem; `nil` when there is nothing, or nothing that passes the filter.
    func receive() -> String? {
        guard let device = unsafe udev_monitor_receive_device(monitor) else { return nil }
        return unsafe UdevDevice(owning: device).subsystem
    }
}

private func text(_ pointer: UnsafePointer<CChar>?) -> String? {
    guard let pointer = unsafe pointer else { return nil }
    return unsafe String(cString: pointer)
}

/// The words for a number of an error.
func reason(_ number: Int32) -> String {
    var text = [CChar](repeating: 0, count: 256)
    guard unsafe strerror_r(number, &text, text.count) == 0 else { return "error \(number)" }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// glibc's macro of this name is not imported.
private func makedev(_ major: UInt32, _ minor: UInt32) -> UInt {
    let major = UInt(major)
    let minor = UInt(minor)
    return (major & 0xFFF) << 8 | (major & 0xFFFF_F000) << 32 | minor & 0xFF
        | (minor & 0xFFFF_FF00) << 12
}

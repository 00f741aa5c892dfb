/// Tells whether two byte strings are equal in a time that does not depend on where they differ.
///
/// The lengths are not secret. Use it for every authentication tag; `==` on tags is not offered.
public func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for index in left.indices { difference |= left[index] ^ right[index] }
    return difference == 0
}

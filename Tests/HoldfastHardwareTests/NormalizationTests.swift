import HoldfastProtocol
import Testing

@testable import HoldfastHardware

@Suite("normalisation")
struct NormalizationTests {
    @Test(
        "what firmware writes when nobody told it is no fact",
        arguments: [
            "", "   ", "\0\0", "To be filled by O.E.M.", "to be filled by OEM", "Default string",
            "None", "N/A", "Not Specified", "Not Applicable", "0", "00000000", "FFFFFFFF",
            "........",
            "xxxxxxxxxxxx", "0123456789", "123456789", "1234567890", "0123456789ABCDEF",
            "System Serial Number", "Base Board Serial Number", "Chassis Serial Number",
            "INVALID", "empty", "<EMPTY>", "unknown", "O.E.M.", "---", "\u{FFFD}\u{FFFD}",
            String(repeating: "a1", count: 200),
        ])
    func worthless(text: String) {
        #expect(FactText.normalized(text) == nil)
    }

    @Test(
        "what a machine has is kept, without what a reader does not see",
        arguments: [
            ("  CZC 1234 \n", "CZC 1234"), ("A\t\tB\0", "A B"), ("PF2ABCDE", "PF2ABCDE"),
            ("01234567A", "01234567A"), ("K\u{7F}1", "K 1"), ("noneA", "noneA"),
        ])
    func kept(text: String, normalized: String) {
        #expect(FactText.normalized(text) == normalized)
    }

    @Test(
        "UUIDs that many machines have, and what is none",
        arguments: [
            "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009",
            "12345678-1234-5678-90AB-CDDEEFAABBCC", "11111111-2222-3333-4444-555555555555",
            "FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE", "Not Settable", "",
            "4c4c4544-0043-3510-8052-b4c04f4a4d3", "4c4c4544-0043-3510-8052-b4c04f4a4d31a",
            "4c4c4544-0043-3510-8052-b4c04f4a4d3g",
        ])
    func worthlessUUID(text: String) {
        #expect(FactText.uuid(text) == nil)
    }

    @Test("a UUID is the same however it is written")
    func uuid() {
        let one = FactText.uuid("4C4C4544-0043-3510-8052-B4C04F4A4D31\n")
        #expect(one == "4c4c4544004335108052b4c04f4a4d31")
        #expect(FactText.uuid("4c4c4544004335108052b4c04f4a4d31") == one)
        // Supermicro derives it from an address: unique all the same.
        #expect(FactText.uuid("00000000-0000-0000-0000-ac1f6b000001") != nil)
    }

    @Test(
        "addresses that no hardware came with",
        arguments: [
            "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01", "52:54:00:12:34:56",
            "01:00:5e:00:00:01", "00:0c:29:12:34:56", "00:50:56:12:34:56", "08:00:27:12:34:56",
            "00:15:5d:12:34:56", "00:16:3e:12:34:56", "00:11:22:33:44:55", "00:1b:21:aa:bb", "",
            "00:1b:21:aa:bb:cc:dd", "80:00:02:08:fe:80:00:00:00:00", "00:1b:21:aa:bb:zz",
        ])
    func foreignAddress(text: String) {
        #expect(FactText.address(text) == nil)
    }

    @Test("an address is the same however it is written")
    func address() {
        #expect(FactText.address("00:1B:21:AA:BB:CC\n") == "001b21aabbcc")
        #expect(FactText.address("dc:a6:32:00:00:01") == "dca632000001")
    }

    @Test("neither printing nor reflection shows a raw value")
    func hidden() {
        let fact = RawFact(.machine, "uuid", "secret-1")
        var dumped = ""
        dump(fact, to: &dumped)
        dump([fact], to: &dumped)
        for text in ["\(fact)", String(describing: fact), String(reflecting: fact), dumped] {
            #expect(!text.contains("secret"))
        }
        #expect(fact.revealed == "uuid, secret-1")
        // Parts that move between fields are another fact.
        #expect(RawFact(.board, "a", "bc") != RawFact(.board, "ab", "c"))
    }
}

@Suite("mounts")
struct MountTests {
    @Test("a line of mountinfo is read, with optional fields and escapes")
    func line() throws {
        let mount = try #require(
            Mount(
                #"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:7 - ext3 /dev/ro\134ot rw,errors=continue"#
            ))
        #expect(mount.point == "/mnt 2" && mount.major == 98 && mount.minor == 0)
        #expect(mount.type == "ext3" && mount.source == #"/dev/ro\ot"#)
        #expect(mount.options == ["errors": "continue"])
    }

    @Test(
        "what is no line is passed over",
        arguments: [
            "", "36 35 98:0 / / rw", "36 35 98 / / rw - ext4 /dev/sda rw",
            "36 35 98:x / / rw - ext4 /dev/sda rw", "36 35 98:0 / / rw - ext4 /dev/sda",
            "36 35 98:0:1 / / rw - ext4 /dev/sda rw", "- - - - - - -", "36 35 8:1 / / rw x y z",
            "36 35 99999999999:1 / / rw - ext4 /dev/sda rw",
        ])
    func noLine(text: String) {
        #expect(Mount(text[...]) == nil)
    }

    @Test("the deepest mount counts, and of several on one point the last")
    func deepest() {
        let mounts = Mounts(
            """
            1 0 8:1 / / rw - ext4 /dev/sda1 rw
            2 1 8:2 / /var rw - ext4 /dev/sda2 rw
            3 1 8:3 / / rw - ext4 /dev/sda3 rw
            4 1 8:4 / /variable rw - ext4 /dev/sda4 rw
            """)
        #expect(mounts.under("/")?.minor == 3)
        #expect(mounts.under("/var")?.minor == 2)
        #expect(mounts.under("/var/lib")?.minor == 2)
        #expect(mounts.under("/vary")?.minor == 3)
        #expect(Mounts("").under("/") == nil)
    }
}

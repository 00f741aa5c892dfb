extension MachineModel {
    static let all: [MachineModel] = [
        industrialPC, laptop, server, raspberryPi, cloudMachine, container, workstation, gateway,
        bonded, usbInterfaces, virtualInterfaces, junk, liveStick, nothing,
    ]

    static let industrialPC = MachineModel(
        "industrial PC",
        expected: [
            "machine uuid, 4c4c4544004335108052b4c04f4a4d31", "board Example AG, IPC-7, B100-1",
            "chassis chassis, Example AG, C-100", "processor cpu, GenuineIntel, 6, 142, 10",
            "network 001b21aabb01", "network 001b21aabbff", "root-disk wwn, 5000c500a1b2c3d1",
            "tpm 2, IFX0102",
        ]
    ) { machine, unit in
        machine.smbios([
            "product_uuid": "4C4C4544-0043-3510-8052-B4C04F4A4D3\(unit.board)",
            "board_vendor": "Example  AG ", "board_name": "IPC-7",
            "board_serial": "B100-\(unit.board)", "chassis_vendor": "Example AG",
            "chassis_serial": "C-100", "product_name": "IPC",
        ])
        machine.cpu(model: "142")
        machine.sata("sda", wwn: "5000c500a1b2c3d\(unit.disk)", port: 0)
        // Not under the root: no fact.
        machine.sata("sdb", wwn: "5000c500ffffff01", port: 1)
        machine.interface(
            "eth0", at: Machine.pci + ":1c.0/0000:01:00.0", "00:1b:21:aa:bb:0\(unit.interface)")
        machine.interface("eth1", at: Machine.pci + ":1c.1/0000:02:00.0", "00:1b:21:aa:bb:ff")
        machine.interface("lo", at: "/devices/virtual", "00:00:00:00:00:00")
        machine.tpm(hid: "IFX0102")
        machine.root("8:2", "ext4 /dev/sda2 rw")
    }

    static let laptop = MachineModel(
        "laptop: LVM on LUKS on NVMe, Wi-Fi with a random address, a dock",
        expected: [
            "machine uuid, 4c4c4544004335108052b4c04f4a4d41", "board Example, X1, L1HF0001",
            "chassis model, Example, X1 Carbon", "processor cpu, GenuineIntel, 6, 140, 10",
            "network 8c8d28aabb01", "root-disk nvme, Example 980 1TB, S5GXNX0R1",
            "tpm 2, STM0125",
        ]
    ) { machine, unit in
        machine.smbios([
            "product_uuid": "4c4c4544-0043-3510-8052-b4c04f4a4d4\(unit.board)",
            "board_vendor": "Example", "board_name": "X1", "board_serial": "L1HF000\(unit.board)",
            "chassis_serial": "None", "sys_vendor": "Example", "product_name": "X1 Carbon",
        ])
        machine.cpu(model: "140")
        machine.nvme(serial: "S5GXNX0R\(unit.disk)")
        machine.mapping("dm-0", number: "253:0", over: ["nvme0n1p2"])
        machine.mapping("dm-1", number: "253:1", over: ["dm-0"])
        machine.root("253:1", "ext4 /dev/mapper/vg-root rw")
        machine.interface(
            "wlan0", at: Machine.pci + ":14.3", "d6:11:22:33:44:55", assigned: "3",
            more: ["phy80211/macaddress": "8c:8d:28:aa:bb:0\(unit.interface)"])
        machine.interface(
            "enp5s0", at: Machine.pci + ":07.0/0000:05:00.0", "00:50:b6:01:02:03",
            more: ["device/removable": "removable"])
        machine.tpm(hid: "STM0125")
    }

    static let server = MachineModel(
        "server with eight interfaces and a mirror",
        expected: [
            "machine uuid, 30373237313258435a32303131303431", "board ExampleServer, SYS-1, ZM1",
            "chassis chassis, ExampleServer, CHS-1", "processor cpu, GenuineIntel, 6, 85, 10",
        ] + (0..<8).map { "network ac1f6b0000\($0)1" } + [
            "root-disk t10, t10.ATA Example SSD S3Z9NB0K2", "root-disk wwn, 50000399a8c00001",
            "tpm 2, NTC0702",
        ]
    ) { machine, unit in
        machine.smbios([
            "product_uuid": "30373237-3132-5843-5a32-30313130343\(unit.board)",
            "board_vendor": "ExampleServer", "board_name": "SYS-1",
            "board_serial": "ZM\(unit.board)", "chassis_vendor": "ExampleServer",
            "chassis_serial": "CHS-1",
        ])
        machine.cpu(model: "85")
        for number in 0..<8 {
            let last = number == 0 ? unit.interface : "1"
            machine.interface(
                "eno\(number)", at: Machine.pci + ":02.0/0000:18:00.\(number)",
                "AC:1F:6B:00:00:\(number)\(last)")
        }
        machine.sata("sda", wwn: "50000399a8c0000\(unit.disk)", port: 0)
        machine.disk(
            "sdb", at: Machine.pci + ":1f.2/ata2/host2/target/2:0:0:0", number: "8:32",
            partition: "sdb2", partitionNumber: "8:34",
            attributes: ["device/wwid": "t10.ATA     Example SSD       S3Z9NB0K2      "])
        machine.mapping("md0", number: "9:0", over: ["sda2", "sdb2"])
        machine.tpm(hid: "NTC0702")
        machine.root("9:0", "xfs /dev/md0 rw")
    }

    static let raspberryPi = MachineModel(
        "Raspberry Pi class board", board: ["machine"],
        expected: [
            "machine device-tree, 10000000abcdef01", "chassis device-tree, Raspberry Pi 4 Model B",
            "processor device-tree, brcm,bcm2711", "network dca632aabb01",
            "root-disk cid, 035344534c333247801f2e3d4c5b0001",
        ]
    ) { machine, unit in
        machine.deviceTree([
            "serial-number": "10000000abcdef0\(unit.board)", "model": "Raspberry Pi 4 Model B",
            "compatible": "raspberrypi,4-model-b\0brcm,bcm2711",
        ])
        machine.card(cid: "035344534c333247801f2e3d4c5b000\(unit.disk)")
        machine.interface(
            "eth0", at: "/devices/platform/scb/fd580000.ethernet",
            "dc:a6:32:aa:bb:0\(unit.interface)")
        machine.root("179:2", "ext4 /dev/root rw")
    }

    static let cloudMachine = MachineModel(
        "virtual machine in a cloud", interface: [], board: ["machine"],
        expected: [
            "machine uuid, ec2a1b2c3d4e5f60718293a4b5c6d7e1", "chassis model, Amazon EC2, m5.large",
            "processor cpu, GenuineIntel, 6, 85, 10", "root-disk serial, vol-0a1b2c3d1",
        ]
    ) { machine, unit in
        machine.smbios([
            "product_uuid": "ec2a1b2c-3d4e-5f60-7182-93a4b5c6d7e\(unit.board)",
            "board_vendor": "Amazon EC2", "board_serial": "Not Specified",
            "chassis_serial": "Not Specified", "sys_vendor": "Amazon EC2",
            "product_name": "m5.large",
        ])
        machine.cpu(model: "85")
        machine.device(Machine.pci + ":04.0/virtio1", "virtio")
        machine.disk(
            "vda", at: Machine.pci + ":04.0/virtio1", number: "254:0", partition: "vda2",
            partitionNumber: "254:2", attributes: ["serial": "vol-0a1b2c3d\(unit.disk)"])
        machine.device(Machine.pci + ":03.0/virtio0", "virtio")
        // A universal address, as if it were hardware: the bus gives it away.
        machine.interface("eth0", at: Machine.pci + ":03.0/virtio0", "00:0d:3a:aa:bb:cc")
        machine.interface("eth1", at: Machine.pci + ":05.0", "00:50:56:aa:bb:0\(unit.interface)")
        machine.root("254:2", "ext4 /dev/vda2 rw")
    }

    static let container = MachineModel(
        "container", disk: [], interface: [],
        expected: [
            "machine uuid, 4c4c4544004335108052b4c04f4a4d51", "board Example, HOST, H1",
            "chassis model, Example, HOST", "processor cpu, GenuineIntel, 6, 85, 10",
        ]
    ) { machine, unit in
        machine.smbios([
            "product_uuid": "4c4c4544-0043-3510-8052-b4c04f4a4d5\(unit.board)",
            "board_vendor": "Example", "board_name": "HOST", "board_serial": "H\(unit.board)",
            "sys_vendor": "Example", "product_name": "HOST",
        ])
        machine.cpu(model: "85")
        machine.interface("eth0", at: "/devices/virtual", "00:1b:21:aa:bb:0\(unit.interface)")
        // The host's disk is visible, but nothing says that the container lies on it.
        machine.sata("sda", wwn: "5000c500a1b2c3d\(unit.disk)", port: 0)
        machine.root(
            "0:51",
            "overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B,upperdir=/var/lib/docker/overlay2/c/diff,workdir=/var/lib/docker/overlay2/c/work"
        )
    }

    static let workstation = MachineModel(
        "btrfs on NVMe",
        expected: [
            "machine uuid, 4c4c4544004335108052b4c04f4a4d61", "board Example, Z790, W1",
            "chassis chassis, WC-1", "processor cpu, GenuineIntel, 6, 183, 10",
            "network 107c61aabb01", "root-disk nvme, Example 980 1TB, S6B0NS0R1",
            "tpm 2, MSFT0101",
        ]
    ) { machine, unit in
        machine.smbios([
            "product_uuid": "4c4c4544-0043-3510-8052-b4c04f4a4d6\(unit.board)",
            "board_vendor": "Example", "board_name": "Z790", "board_serial": "W\(unit.board)",
            "chassis_vendor": "Default string", "chassis_serial": "WC-1",
        ])
        machine.cpu(model: "183")
        machine.nvme(serial: "S6B0NS0R\(unit.disk)")
        machine.interface(
            "eno1", at: Machine.pci + ":1c.0/0000:04:00.0", "10:7c:61:aa:bb:0\(unit.interface)")
        machine.tpm(hid: "MSFT0101")
        machine.root("0:27", "btrfs /dev/nvme0n1p2 rw,subvol=/@")
    }

    static let gateway = MachineModel(
        "gateway: SoC, eMMC, a read-only root under an overlay", interface: ["network"],
        board: ["processor"],
        expected: [
            "chassis device-tree, Example Gateway 2",
            "processor soc, Freescale i.MX, i.MX8MM, 1.0, 0A1B2C3D4E5F6071",
            "network 00049faabb01", "root-disk cid, 150100445634303634014f2a3b4c5d01",
            "tpm 2, infineon,slb9670",
        ]
    ) { machine, unit in
        machine.deviceTree(["model": "Example Gateway 2", "compatible": "example,gw2\0fsl,imx8mm"])
        machine.device(
            "/devices/soc0", "soc",
            attributes: [
                "family": "Freescale i.MX", "soc_id": "i.MX8MM", "revision": "1.0",
                "serial_number": "0A1B2C3D4E5F607\(unit.board)",
            ])
        machine.card(cid: "150100445634303634014f2a3b4c5d0\(unit.disk)")
        machine.interface(
            "eth0", at: "/devices/platform/soc/30be0000.ethernet",
            "00:04:9f:aa:bb:0\(unit.interface)")
        // Without an address in its fuses: another one after each boot.
        machine.interface(
            "eth1", at: "/devices/platform/soc/30bf0000.ethernet", "00:04:9f:99:99:99",
            assigned: "1")
        machine.device(
            "/devices/platform/soc/spi0.0/tpm/tpm0", "tpm", node: "tpm0", number: "10:224",
            attributes: [
                "tpm_version_major": "2", "device/of_node/compatible": "infineon,slb9670",
            ])
        machine.root(
            "0:30",
            "overlay overlayroot rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/media/root-rw/w",
            before: """
                25 27 179:2 / /media/root-ro ro - ext4 /dev/mmcblk0p2 ro
                26 27 0:29 / /media/root-rw rw - tmpfs tmpfs rw

                """)
    }

    static let bonded = MachineModel(
        "bonded interfaces and VLANs", disk: [], board: ["machine"],
        expected: [
            "machine uuid, 4c4c4544004335108052b4c04f4a4d71", "network b49691aabb01",
            "network b49691aabb0f",
        ]
    ) { machine, unit in
        machine.smbios(["product_uuid": "4c4c4544-0043-3510-8052-b4c04f4a4d7\(unit.board)"])
        let answered = "b4:96:91:aa:bb:0\(unit.interface)"
        machine.interface(
            "eth0", at: Machine.pci + ":1c.0/0000:01:00.0", answered, assigned: "3",
            more: ["bonding_slave/perm_hwaddr": answered])
        machine.interface(
            "eth1", at: Machine.pci + ":1c.0/0000:01:00.1", answered, assigned: "3",
            more: ["bonding_slave/perm_hwaddr": "b4:96:91:aa:bb:0f"])
        for name in ["bond0", "bond0.100", "bond0.200"] {
            machine.interface(name, at: "/devices/virtual", answered, assigned: "0")
        }
        machine.root("0:5", "tmpfs tmpfs rw")
    }

    static let usbInterfaces = MachineModel(
        "interfaces and a modem on USB, RAID controller", interface: [], board: ["machine"],
        expected: [
            "machine uuid, 4c4c4544004335108052b4c04f4a4d81",
            "root-disk wwn, 600605b00a1b2c3d2a4b5c6d7e8f9001",
        ]
    ) { machine, unit in
        machine.smbios(["product_uuid": "4c4c4544-0043-3510-8052-b4c04f4a4d8\(unit.board)"])
        let usb = Machine.pci + ":14.0/usb2/2-1"
        machine.device(usb, "usb")
        machine.interface("enx0", at: usb + "/2-1:1.0", "00:e0:4c:68:00:0\(unit.interface)")
        machine.interface("wwan0", at: usb + "/2-1:1.8", "00:a0:c6:00:00:01")
        machine.disk(
            "sda", at: Machine.pci + ":02.0/host0/target/0:2:0:0", number: "8:0",
            partition: "sda2", partitionNumber: "8:2",
            attributes: ["device/wwid": "naa.600605b00a1b2c3d2a4b5c6d7e8f900\(unit.disk)"])
        machine.root("8:2", "ext4 /dev/sda2 rw")
    }

    static let virtualInterfaces = MachineModel(
        "host of containers and virtual machines", disk: [], board: ["machine"],
        expected: ["machine uuid, 4c4c4544004335108052b4c04f4a4d91", "network 3cecefaabb01"]
    ) { machine, unit in
        machine.smbios(["product_uuid": "4c4c4544-0043-3510-8052-b4c04f4a4d9\(unit.board)"])
        let physical = Machine.pci + ":1c.0/0000:01:00.0"
        machine.interface("eth0", at: physical, "3c:ec:ef:aa:bb:0\(unit.interface)")
        machine.interface(
            "eth0v0", at: Machine.pci + ":1c.0/0000:01:10.0", "3c:ec:ef:cc:cc:01",
            links: ["device/physfn": "../0000:01:00.0"])
        for name in ["docker0", "br0", "veth1a2b", "tap0", "wg0", "macvlan0", "dummy0"] {
            machine.interface(name, at: "/devices/virtual", "3c:ec:ef:dd:dd:01")
        }
        // Somebody set it by hand, and another one is locally administered.
        machine.interface("eth1", at: Machine.pci + ":1d.0", "3c:ec:ef:ee:ee:01", assigned: "3")
        machine.interface("eth2", at: Machine.pci + ":1d.1", "02:ec:ef:ee:ee:01")
        machine.interface("eth3", at: Machine.pci + ":1d.2", "ff:ff:ff:ff:ff:ff")
        machine.interface("ib0", at: Machine.pci + ":1d.3", "00:00:00:00:00:00")
        machine.root("0:5", "zfs rpool/ROOT/debian rw")
    }

    static let junk = MachineModel(
        "firmware that was never filled in", disk: [], interface: [], board: [],
        expected: []
    ) { machine, _ in
        machine.smbios([
            "product_uuid": "03000200-0400-0500-0006-000700080009",
            "board_vendor": "To be filled by O.E.M.", "board_serial": "To be filled by O.E.M.",
            "chassis_serial": "Default string", "sys_vendor": "System manufacturer",
            "product_name": "System Product Name",
        ])
        machine.disk(
            "sda", at: Machine.pci + ":1f.2/ata1/host0/target/0:0:0:0", number: "8:0",
            partition: "sda2", partitionNumber: "8:2",
            attributes: ["device/wwid": "naa.0000000000000000", "device/serial": "0123456789"])
        machine.interface("eth0", at: Machine.pci + ":1c.0", "00:00:00:00:00:00")
        machine.interface("eth1", at: Machine.pci + ":1d.0", "00:11:22:33:44:55")
        machine.device(
            "/devices/virtual/tpm/tpm0", "tpm", node: "tpm0", number: "10:224",
            attributes: ["tpm_version_major": "2", "device/firmware_node/hid": "MSFT0101"])
        machine.root("8:2", "ext4 /dev/sda2 rw")
    }

    static let liveStick = MachineModel(
        "live system on a stick", disk: [], interface: [], board: [], expected: []
    ) { machine, unit in
        let usb = Machine.pci + ":14.0/usb2/2-1"
        machine.device(usb, "usb")
        machine.disk(
            "sdb", at: usb + "/host6/target/6:0:0:0", number: "8:16", partition: "sdb2",
            partitionNumber: "8:18", attributes: ["device/wwid": "naa.5000c500a1b2c3d\(unit.disk)"])
        machine.device(
            "/devices/virtual/block/loop0", "block", node: "loop0", number: "7:0",
            attributes: ["loop/backing_file": "/run/live/medium/live/filesystem.squashfs"])
        machine.root(
            "0:30", "overlay overlay rw,lowerdir=/run/live/rootfs,upperdir=/run/live/rw/u",
            before: """
                23 27 8:18 / /run/live/medium ro - vfat /dev/sdb2 ro
                24 27 7:0 / /run/live/rootfs ro - squashfs /dev/loop0 ro
                25 27 0:29 / /run/live/rw rw - tmpfs tmpfs rw

                """)
    }

    static let nothing = MachineModel(
        "nothing at all", disk: [], interface: [], board: [], expected: []
    ) { machine, _ in
        machine.device("/devices/virtual/mem/null", "mem")
        machine.file("proc/self/mountinfo", "this is no line of mounts\n")
    }
}

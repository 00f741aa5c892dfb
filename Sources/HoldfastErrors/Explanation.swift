/// What a code means, for a person who has only the code.
///
/// There is one for each code that a program or a decision gives; `holdfast explain` and `docs/codes.md`
/// print them.
public struct Explanation: Sendable, Hashable, Encodable {
    /// The name that does not change.
    public let code: String
    /// What happened.
    public let cause: String
    /// What goes on all the same.
    public let stillWorks: String
    /// What to do.
    public let next: String

    /// - Returns: `nil` when there is no such code.
    public static func of(_ code: String) -> Explanation? {
        all.first { $0.code == code.uppercased() }
    }

    /// Every one of them, in the order of the page.
    public static let all: [Explanation] = groups.flatMap { group in
        group.codes.map { code, cause, next in
            Explanation(code: code, cause: cause, stillWorks: group.stillWorks, next: next)
        }
    }

    /// Codes that leave the same things working.
    struct Group {
        let title: String
        let stillWorks: String
        /// Code, cause, next step.
        let codes: [(String, String, String)]
    }

    /// The page `docs/codes.md`.
    public static var page: String {
        let head = """
            # Codes

            Every refusal has a code that does not change. `holdfast explain CODE` prints the same as this page.

            """
        return groups.reduce(head) { text, group in
            group.codes.reduce(
                text + "\n## \(group.title)\n\nWhat still works: \(group.stillWorks)\n"
            ) { text, entry in
                text + "\n### \(entry.0)\n\n\(entry.1) \(entry.2)\n"
            }
        }
    }

    static let groups = [
        Group(
            title: "Where a license stands",
            stillWorks:
                "Your work, its export, status, renewal and sync. Nobody loses his data.",
            codes: [
                ("ACTIVE", "The license is in force.", "There is nothing to do."),
                (
                    "RENEW_DUE", "The license is in force and should be renewed.",
                    "Run `holdfast sync`. Without a network, run `holdfast bundle export FILE` and take the file to the vendor."
                ),
                (
                    "GRACE",
                    "The license is in force, and ends soon. It was not renewed in time.",
                    "Renew it now, as for RENEW_DUE. Everything works until then."
                ),
                (
                    "DEGRADED",
                    "The lease has run out. What the terms keep still works, for a while.",
                    "Renew it, as for RENEW_DUE. The rest comes back at once."
                ),
                (
                    "EXPIRED", "The license and its time after it are over.",
                    "Ask the vendor for a renewal, and install the file."
                ),
                (
                    "POLICY_PENDING",
                    "The vendor has told of newer terms. They come with a later renewal, not before the day that `holdfast status` shows.",
                    "Read what changes with `holdfast license terms`. Until then nothing changes."
                ),
                ("REVOKED", "The vendor took the license back.", "Ask the vendor why."),
                (
                    "RETIRED", "This device gave its license up for good.",
                    "To use it again, enroll it anew: `holdfast enroll --again`."
                ),
                (
                    "UNENROLLED", "This device does not know a vendor yet.",
                    "Run `holdfast enroll` with the vendor's trust file."
                ),
                (
                    "NO_LICENSE", "There is no license on this device.",
                    "Install the vendor's file: `holdfast license install FILE`."
                ),
                (
                    "NOT_GRANTED", "No license on this device has that right.",
                    "Ask the vendor for a license that grants it."
                ),
                (
                    "NOT_IN_LEASE", "The license grants it, but the lease in force does not.",
                    "Renew the license: the next lease brings it."
                ),
                (
                    "LIMIT_REACHED", "The limit of this right is used up.",
                    "Ask the vendor for a higher limit. `holdfast status` shows what was used."
                ),
                (
                    "LIMIT_UNKNOWN",
                    "This right has a limit, and the ledger that counts its use is lost or cannot be read.",
                    "Run `holdfast ledger verify`, and do what it says. Then renew: the vendor knows what was settled."
                ),
                (
                    "OVERAGE",
                    "The limit of this right is used up. The terms let it go on, and what is used is counted.",
                    "Ask the vendor for a higher limit."
                ),
                (
                    "TEST",
                    "The license is for tests, on a machine without a TPM. Nothing holds it, and nobody bills it.",
                    "Do not give a program to customers that says this."
                ),
                (
                    "ALWAYS_ALLOWED", "This works in every state.", "There is nothing to do."
                ),
                (
                    "NO_SECRET", "The lease in force has no secret for this right.",
                    "The vendor makes one with `holdfast-server secret make`. It comes with the next lease."
                ),
            ]),
        Group(
            title: "When the TPM does not open the lease",
            stillWorks:
                "Your work, its export, status, renewal and sync. Soft rights go on for a while.",
            codes: [
                (
                    "BOOT_CHANGED",
                    "The machine started with software or settings that the vendor has not approved. An update of firmware, boot loader or kernel does that.",
                    "Undo the change. Or ask the vendor to approve it, and install the file: `holdfast approve FILE`."
                ),
                (
                    "RESETS_SPENT", "The machine was started more often than this lease allows.",
                    "Renew the license."
                ),
                (
                    "TIME_UNCERTAIN",
                    "The TPM's clock is below the time at which the lease was made. Somebody had set it ahead, and it forgot.",
                    "Renew the license."
                ),
                (
                    "EPOCH_RAISED", "This lease was given up. The TPM counts that.",
                    "Install the newest license file, or renew."
                ),
                (
                    "CLEARED",
                    "The key that opens the lease is not in this TPM. The TPM was cleared or changed, or the files are from another machine.",
                    "Enroll again: `holdfast enroll --again`."
                ),
                (
                    "TPM_ABSENT", "The TPM does not answer.",
                    "Run `holdfast doctor`. Nothing is lost, and the license comes back with the TPM."
                ),
                (
                    "LOCKED", "The TPM does not open the lease, and the cause was not found.",
                    "Run `holdfast status`. When it stays so, renew."
                ),
            ]),
        Group(
            title: "The TPM",
            stillWorks:
                "Whatever does not need the TPM at this moment. Programs that run go on for a while.",
            codes: [
                (
                    "TPM_UNREACHABLE", "There is no TPM where it was looked for.",
                    "Run `holdfast doctor`. Check that the user is in the group of the TPM's device."
                ),
                (
                    "TPM_BUSY", "Another program uses the TPM.",
                    "Wait, and try again. Stop the program that keeps it."
                ),
                (
                    "TPM_TIMED_OUT", "The TPM did not answer in time, or never came to rest.",
                    "Try again. When it stays so, restart the machine."
                ),
                (
                    "TPM_REFUSED", "The TPM refused a command. The message has its own words.",
                    "Run `holdfast doctor`."
                ),
                (
                    "TPM_NOT_SUPPORTED", "This TPM lacks something that is needed.",
                    "Run `holdfast doctor`, and tell the vendor which TPM it is."
                ),
                (
                    "TPM_REQUEST_INVALID", "A command for the TPM cannot be made that way.",
                    "Check what was given. It may be an error of Holdfast: tell us."
                ),
                (
                    "TPM_RESPONSE_MALFORMED", "The TPM's answer makes no sense.",
                    "Check what stands between this machine and its TPM. Then restart it."
                ),
                (
                    "TPM_RESPONSE_NOT_AUTHENTIC",
                    "The answer was changed on its way from the TPM.",
                    "Do not go on with this machine before you know who did that."
                ),
                (
                    "TPM_NAME_MISMATCH", "A key in the TPM is not the one that it should be.",
                    "Run `holdfast doctor`. Enroll again when the TPM was changed."
                ),
                (
                    "BOOT_STATE_NOT_APPROVED",
                    "The TPM does not use the key in this boot state.",
                    "Install the vendor's approval: `holdfast approve FILE`."
                ),
                (
                    "SOFTWARE_TPM", "The software TPM does not start or stop.",
                    "Check that `swtpm` is installed and that its folder can be written."
                ),
                (
                    "KEYS_LOST", "The keys of the enrollment are not in this TPM.",
                    "Enroll again: `holdfast enroll --again`. The vendor links both."
                ),
                (
                    "COUNTER_AUTH_MISSING",
                    "The file `counter-auth` is gone, so counters cannot be raised.",
                    "Bring it back from a copy. Or enroll again: `holdfast enroll --again`."
                ),
                (
                    "UDEV_UNAVAILABLE", "The facts of the hardware cannot be read.",
                    "Check that udev runs and that `/sys` is there."
                ),
            ]),
        Group(
            title: "Files and documents",
            stillWorks: "Everything as it was: a file that is refused changes nothing.",
            codes: [
                (
                    "SIGNATURE_INVALID", "The file is not signed by this vendor, or was changed.",
                    "Copy it again. Check that it comes from the vendor of this device. If his keys have changed, take his newest trust file: `holdfast trust install FILE`."
                ),
                (
                    "DOCUMENT_INVALID", "The file is damaged, or of another kind.",
                    "Copy it again, or have it made again. Check which command it belongs to."
                ),
                (
                    "DEVICE_MISMATCH", "The file is for another device.",
                    "Use the file that the vendor made for this one."
                ),
                (
                    "DOCUMENT_SUPERSEDED", "A newer file was installed before.",
                    "There is nothing to do. When a license is missing, sync once more."
                ),
                (
                    "SEALED_OBJECT_INVALID", "A sealed part of the file is damaged.",
                    "Copy the file again, or have it made again."
                ),
                (
                    "TOO_LARGE", "The file is larger than such a file can be.",
                    "Check that it is the right one."
                ),
                (
                    "FILE_UNUSABLE", "A file or folder cannot be read or written.",
                    "Check its name, its rights and the space on the disk."
                ),
                (
                    "TERMS_INVALID", "The terms break one of their own rules.",
                    "Change what the message names. docs/terms.md has an example."
                ),
                (
                    "TERMS_NEED_NOTICE",
                    "A newer version of terms takes something away from devices, and tells nobody before.",
                    "Add `notice` to the terms, for example 30d. Licenses go on under the new version that long after their device was told."
                ),
                (
                    "ARGUMENT_INVALID", "What was given to the command makes no sense.",
                    "Read the message, and `--help` of the command."
                ),
                (
                    "METER_INVALID", "The name of a meter or its amount makes no sense.",
                    "Use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, and an amount of 1 or more."
                ),
                (
                    "GUARD_CLOSED",
                    "The program asked a guard that it had closed, that is not there, or that was opened before the process forked.",
                    "The maker of the program has to correct it: open a guard, in the child of a fork as well."
                ),
                (
                    "VENDOR_INVALID", "The program has no proper id of its vendor.",
                    "The maker of the program has to correct it."
                ),
                (
                    "VENDOR_MISMATCH",
                    "The licenses on this device are of another vendor than the program's.",
                    "Check which state directory the program was given."
                ),
                (
                    "NONCE_MISSING", "The vendor's numbers for new evidence are gone.",
                    "Run `holdfast retire --yes`, then enroll again."
                ),
                (
                    "ENROLLED", "This device is enrolled, and its keys are there.",
                    "Retire it first when it is to be enrolled anew."
                ),
            ]),
        Group(
            title: "The usage ledger",
            stillWorks:
                "Checks of licenses, and new records. What cannot be proven any more is named, and the vendor decides.",
            codes: [
                (
                    "LEDGER_UNUSABLE", "The ledger cannot be opened or written.",
                    "Check the space on the disk and the rights of the folder `ledger`."
                ),
                (
                    "METERS_EXHAUSTED", "The ledger counts as many meters as it has room for.",
                    "Use a meter that is counted already. A new enrollment begins with none."
                ),
                (
                    "LEDGER_DAMAGED", "A part of the ledger makes no sense.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "LEDGER_EDITED", "A record is not the one that was sealed.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "LEDGER_TRUNCATED", "Records at the end are gone.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "LEDGER_REORDERED", "Records are not in their order.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "LEDGER_SPLICED", "Parts of two ledgers were put together.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "LEDGER_FOREIGN", "A seal in the ledger is of another device or enrollment.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "LEDGER_FORGED", "A seal in the ledger is not of this TPM.",
                    "Keep a copy of the folder `ledger`, then run `holdfast ledger repair`."
                ),
                (
                    "ROLLBACK_SUSPECT",
                    "An older copy of the ledger was put back, or somebody raised its counter.",
                    "A new era has begun by itself. Take evidence to the vendor."
                ),
                (
                    "COUNTER_LOST", "The TPM's counter is behind the ledger.",
                    "A new era has begun by itself. Take evidence to the vendor."
                ),
                (
                    "LEDGER_REPAIR", "Damaged records were left behind, and a new era began.",
                    "Take evidence to the vendor."
                ),
                ("FIRST", "The ledger began.", "There is nothing to do."),
                (
                    "USAGE_UNSETTLED", "Usage was recorded that the vendor has not settled.",
                    "Sync first. Or say `--discard-usage` to give it up."
                ),
                (
                    "STALE", "The evidence was made with an older number than the last one.",
                    "Make new evidence: sync, or export a bundle again."
                ),
                (
                    "CONFLICT", "Something else was stored in the meantime.",
                    "Try again."
                ),
            ]),
        Group(
            title: "The network",
            stillWorks:
                "Everything that the lease allows: no license waits for a network. The same goes by file.",
            codes: [
                (
                    "SERVER_UNKNOWN", "No address of a server is known.",
                    "Give `--server`, or install a trust file that names one."
                ),
                (
                    "SERVER_UNREACHABLE", "The vendor's server does not answer.",
                    "Try again later, or take a file to the vendor."
                ),
                (
                    "SERVER_KEY_MISMATCH",
                    "The server that answered is not the vendor's. It was not told anything.",
                    "Check the network and the address. Install a newer trust file when the vendor says so."
                ),
                (
                    "SERVER_ANSWER_MALFORMED", "The server's answer makes no sense.",
                    "Check the address. Something in between may have answered."
                ),
                (
                    "BUSY", "The server was asked too often, or for too much at once.",
                    "Wait as long as the message says, and try again."
                ),
                (
                    "RECALL", "The server lost records, and asks for what it had signed.",
                    "There is nothing to do: the device brings it."
                ),
                (
                    "UNAUTHORIZED", "The server does not let this in.",
                    "Check the administrator's token."
                ),
                (
                    "LISTEN_FAILED", "The server cannot take that address and port.",
                    "Stop the program that has it, or choose another port."
                ),
            ]),
        Group(
            title: "At the vendor's",
            stillWorks:
                "Devices go on as their leases say. Nothing was changed by what was refused.",
            codes: [
                (
                    "DEVICE_UNKNOWN", "The vendor's records do not have that device.",
                    "Run `holdfast-server device list`."
                ),
                (
                    "DEVICE_UNPROVEN",
                    "The device has not yet shown that it has the TPM that it named.",
                    "Let the device send evidence: `holdfast enroll --response-in`, then its file."
                ),
                (
                    "DEVICE_PENDING", "The device waits to be admitted.",
                    "Look at it with `holdfast-server device show`, then `device approve`."
                ),
                (
                    "ENROLLMENT_ENDED", "This enrollment of the device is over.",
                    "The device enrolls again: `holdfast enroll --again`."
                ),
                (
                    "EK_NOT_TRUSTED", "The maker of the TPM is not one that the vendor trusts.",
                    "Add the maker's root, or put the key on the inventory."
                ),
                (
                    "EK_NOT_SUPPORTED", "The TPM's key is of a kind that the vendor does not take.",
                    "Name the model in the trust file: `holdfast-server trust update`."
                ),
                (
                    "EK_MISMATCH", "The certificate is not about the key that was shown.",
                    "Check the machine. It may show the certificate of another one."
                ),
                (
                    "EK_CERTIFICATE_MISSING", "The TPM has no certificate of its maker.",
                    "Put the key on the inventory: `holdfast-server inventory add`."
                ),
                (
                    "EK_CERTIFICATE_UNREADABLE", "The certificate of the TPM cannot be read.",
                    "Put the key on the inventory, and tell us the make of the TPM."
                ),
                (
                    "EK_ALREADY_ENROLLED", "That TPM is enrolled under another id.",
                    "Look for it with `holdfast-server device list`."
                ),
                (
                    "HARDWARE_NOT_ALLOWED", "The vendor does not take this model of TPM.",
                    "Put the key on the inventory, or name the model in the trust file."
                ),
                (
                    "NONCE_UNKNOWN", "The evidence is about a number that was not given out.",
                    "Make new evidence after the next reply."
                ),
                (
                    "EVIDENCE_REFUSED", "A check of the evidence failed. The message names it.",
                    "Run `holdfast-server device show` to see which."
                ),
                (
                    "EVIDENCE_MISSING", "There is no evidence of the device that counts.",
                    "Let the device send evidence."
                ),
                (
                    "EVIDENCE_UNREADABLE", "The evidence is damaged.",
                    "Copy it again, or have it made again."
                ),
                (
                    "EVENT_LOG_UNREADABLE", "The event log is damaged or of an unknown form.",
                    "Copy it again from the machine."
                ),
                (
                    "POLICY_UNREADABLE", "The appraisal policy is damaged.",
                    "Correct what the message names."
                ),
                (
                    "POLICY_NOT_MET",
                    "The device shows something that the vendor's policy does not take.",
                    "Ask the vendor, who sees why. Usage is kept and counts once the policy is met."
                ),
                (
                    "POLICY_SUPERSEDED",
                    "A policy of this name and of a version as high is in force.",
                    "Raise the version."
                ),
                (
                    "MEASUREMENTS_TOO_LONG",
                    "The list of what ran is too long to be sent.",
                    "Start the machine again. Sync more often."
                ),
                (
                    "LICENSE_OVER", "The license has ended, so no lease of it is issued.",
                    "Issue a new license."
                ),
                (
                    "VENDOR_KEYS", "A key of the vendor is missing, damaged, or there already.",
                    "Bring it back from where it is kept."
                ),
                (
                    "KEY_NOT_FITTING", "The vendor's keys do not allow that step now.",
                    "Run `holdfast-server keys list`. docs/keys.md has the order of the steps."
                ),
                (
                    "KEY_NEEDED", "Some devices still need the key. The message names them.",
                    "Let them sync first. When the key leaked, say `--yes`."
                ),
                (
                    "SEALING_KEY_UNKNOWN",
                    "The file is sealed to a key that the vendor no longer has in use.",
                    "Take the newest trust file: `holdfast trust install FILE`. Then make the file again."
                ),
                (
                    "STORE_UNUSABLE", "The vendor's records cannot be used.",
                    "Check the space on the disk, and that no other program has them."
                ),
                (
                    "OUT_OF_MEMORY", "There is not enough memory.",
                    "Stop other programs, and try again."
                ),
                (
                    "UNEXPECTED_FAILURE", "Something went wrong that nobody foresaw.",
                    "Tell us what you did, and the message."
                ),
            ]),
        Group(
            title: "A secret of your own",
            stillWorks: "Every license, and what else is sealed to this TPM.",
            codes: [
                (
                    "PCRS_CHANGED",
                    "The machine booted in another way than when the secret was sealed.",
                    "Boot the old version, or seal the secret again from its source. If nobody changed a thing, do not trust this machine."
                ),
                (
                    "BLOB_FOREIGN",
                    "The secret was sealed by another TPM, or by this one before it was cleared.",
                    "Seal it again from its source. No other TPM opens it."
                ),
                (
                    "PIN_WRONG",
                    "The PIN is wrong, and the TPM counts it.",
                    "Type it again. Mind how many tries are left."
                ),
                (
                    "PIN_NEEDED",
                    "A PIN is needed, and none was given.",
                    "Run it where you can type, or use `--pin-file`."
                ),
                (
                    "PIN_UNUSABLE",
                    "The PIN is too short or too long, or the two do not match.",
                    "Choose one of 4 to 32 bytes, and type it again."
                ),
                (
                    "TPM_LOCKED_OUT",
                    "There were too many wrong PINs, so the TPM takes none for a while.",
                    "Leave the machine on, and wait as long as the message says."
                ),
                (
                    "PCRS_NOT_MEASURED",
                    "Nothing was measured where the secret should be bound to, so it would guard no one.",
                    "Choose other PCRs. Run `holdfast doctor` to see what is used."
                ),
                (
                    "CONDITION_NOT_MET",
                    "A term that was set when the secret was sealed does not hold.",
                    "Look at the terms with `holdfast unseal --explain`, and meet them."
                ),
                (
                    "BLOB_UNUSABLE",
                    "The sealed file is damaged, or it is another file.",
                    "Take a copy that you have kept."
                ),
                (
                    "SECRET_UNUSABLE",
                    "The secret cannot be read or written.",
                    "Check where it comes from and where it goes."
                ),
                (
                    "PREDICTION_IMPOSSIBLE",
                    "The log and the new files do not tell what the update will measure.",
                    "Name the part as the message says, or take the values of a machine."
                ),
            ]),
    ]
}

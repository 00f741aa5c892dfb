/* libholdfast: what an application asks about its license.
 *
 * Everything may be called from any thread, and by any number of processes on one device, but not from the
 * handler of a signal. Nothing here uses the network, ends the process, reads the environment, or fails
 * because a license ran out. docs/sdk.md has the whole story.
 *
 * NULL, and a guard that was closed, are refused (GUARD_CLOSED, METER_INVALID, ARGUMENT_INVALID). What was
 * freed is not to be used, as always in C.
 *
 * A process that forks opens a guard of its own in the child. That of the parent is refused there, and
 * closing it there does nothing to the parent.
 *
 * ABI: every type is opaque, functions are added and never changed within one soname (libholdfast.so.0).
 * Strings are UTF-8, and what is not names nothing; those that are returned belong to the object that they
 * come from.
 */
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define HOLDFAST_NONNULL _Nonnull
#define HOLDFAST_NULLABLE _Nullable
#else
#define HOLDFAST_NONNULL
#define HOLDFAST_NULLABLE
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct holdfast_guard holdfast_guard;
typedef struct holdfast_feature holdfast_feature;
typedef struct holdfast_decision holdfast_decision;

/* What functions return; the same numbers as the exit codes of the programs. */
typedef int32_t holdfast_result;
#define HOLDFAST_OK 0
#define HOLDFAST_FAILED 1      /* the disk, for example */
#define HOLDFAST_REFUSED 2     /* the license or the TPM says no */
#define HOLDFAST_UNREACHABLE 3 /* the TPM does not answer */
#define HOLDFAST_USAGE 64      /* an argument makes no sense */

/* How many bytes a secret has. */
#define HOLDFAST_SECRET_SIZE 32

/* Looks at the licenses once, and again from then on, on a thread of its own. Never returns NULL: when
 * something is not as it should be, decisions are refusals that say what.
 *
 * vendor:  the vendor's id, 64 hexadecimal digits, as `holdfast-server init` prints it.
 * product: licenses of other products are left out; NULL for all.
 * state:   the state directory of `holdfast`; NULL for /var/lib/holdfast.
 * tpm:     as `holdfast --tcti` takes it; NULL for device:/dev/tpmrm0. */
holdfast_guard *HOLDFAST_NONNULL holdfast_open(
    const char *HOLDFAST_NULLABLE vendor, const char *HOLDFAST_NULLABLE product,
    const char *HOLDFAST_NULLABLE state, const char *HOLDFAST_NULLABLE tpm);

/* For machines without a TPM: goes by a test license in the directory of `holdfast test install`, and by
 * nothing else. It belongs into builds for tests alone: whoever can write to the directory chooses the
 * answers. Every decision has the flag TEST in its JSON. */
holdfast_guard *HOLDFAST_NONNULL holdfast_open_testing(
    const char *HOLDFAST_NULLABLE vendor, const char *HOLDFAST_NULLABLE product,
    const char *HOLDFAST_NULLABLE state);

/* Ends the thread; no callback comes after it returned. Features and decisions stay valid. Closing once
 * more does nothing; a few bytes of each guard stay, so that this can be told. */
void holdfast_close(holdfast_guard *HOLDFAST_NULLABLE guard);

/* Looks now. Nobody has to call this: files of the license are watched. */
void holdfast_refresh(holdfast_guard *HOLDFAST_NULLABLE guard);

/* Whether an entitlement may be used now. */
bool holdfast_is_allowed(
    holdfast_guard *HOLDFAST_NULLABLE guard, const char *HOLDFAST_NULLABLE entitlement);

/* An entitlement that is asked for often: holdfast_feature_is_allowed reads memory
 * and a clock, and says no when nobody has looked for too long. NULL when the guard was closed; NULL
 * is not allowed, and may be freed. */
holdfast_feature *HOLDFAST_NULLABLE holdfast_feature_open(
    holdfast_guard *HOLDFAST_NULLABLE guard, const char *HOLDFAST_NULLABLE entitlement);
bool holdfast_feature_is_allowed(const holdfast_feature *HOLDFAST_NULLABLE feature);
void holdfast_feature_free(holdfast_feature *HOLDFAST_NULLABLE feature);

/* Whether an entitlement may be used now, why, and what comes next. */
holdfast_decision *HOLDFAST_NONNULL holdfast_check(
    holdfast_guard *HOLDFAST_NULLABLE guard, const char *HOLDFAST_NULLABLE entitlement);
bool holdfast_decision_allowed(const holdfast_decision *HOLDFAST_NULLABLE decision);
/* ACTIVE, RENEW_DUE, GRACE, DEGRADED, EXPIRED, REVOKED, RETIRED or UNENROLLED. */
const char *HOLDFAST_NONNULL
holdfast_decision_state(const holdfast_decision *HOLDFAST_NULLABLE decision);
/* The reason, as a name that does not change: `holdfast explain CODE`. */
const char *HOLDFAST_NONNULL
holdfast_decision_code(const holdfast_decision *HOLDFAST_NULLABLE decision);
/* For the person at the device. */
const char *HOLDFAST_NONNULL
holdfast_decision_message(const holdfast_decision *HOLDFAST_NULLABLE decision);
/* What to do; NULL when there is nothing to do. */
const char *HOLDFAST_NULLABLE
holdfast_decision_advice(const holdfast_decision *HOLDFAST_NULLABLE decision);
/* All of it, as `holdfast check --format json` prints it. */
const char *HOLDFAST_NONNULL
holdfast_decision_json(const holdfast_decision *HOLDFAST_NULLABLE decision);
void holdfast_decision_free(holdfast_decision *HOLDFAST_NULLABLE decision);

/* Calls back with the decision, now and each time it becomes another one, until the guard is closed. The
 * first call comes before this returns, later ones from a thread of the guard, one at a time; the decision
 * is valid during the call. A callback may ask, listen and close; it throws nothing and does not jump out.
 * Two guards whose callbacks listen at each other may wait for each other. */
typedef void (*holdfast_listener)(
    void *HOLDFAST_NULLABLE context, const holdfast_decision *HOLDFAST_NONNULL decision);
void holdfast_watch(
    holdfast_guard *HOLDFAST_NULLABLE guard, const char *HOLDFAST_NULLABLE entitlement,
    holdfast_listener HOLDFAST_NULLABLE listener, void *HOLDFAST_NULLABLE context);

/* Records that something was used; it is on the disk when this returns HOLDFAST_OK. */
holdfast_result holdfast_meter(
    holdfast_guard *HOLDFAST_NULLABLE guard, const char *HOLDFAST_NULLABLE meter, uint32_t quantity);

/* The secret that the vendor gave to an entitlement, into HOLDFAST_SECRET_SIZE bytes; the TPM is asked each
 * time. Nothing is written when it is refused. Wipe the bytes after use. */
holdfast_result holdfast_secret(
    holdfast_guard *HOLDFAST_NULLABLE guard, const char *HOLDFAST_NULLABLE entitlement,
    uint8_t *HOLDFAST_NULLABLE secret);

/* Why the last holdfast_meter or holdfast_secret of this thread did not return HOLDFAST_OK; empty before.
 * Valid until the next of these calls of the thread. */
const char *HOLDFAST_NONNULL holdfast_error_code(void);
const char *HOLDFAST_NONNULL holdfast_error_message(void);

#ifdef __cplusplus
}
#endif
#endif

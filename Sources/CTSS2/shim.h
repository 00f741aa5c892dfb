#include <tss2/tss2_common.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>

/* Function-like macros over the context's function table are not imported into Swift. */
static inline TSS2_RC holdfast_tcti_transmit(TSS2_TCTI_CONTEXT *context, size_t size,
                                             const uint8_t *command) {
    return Tss2_Tcti_Transmit(context, size, command);
}
static inline TSS2_RC holdfast_tcti_receive(TSS2_TCTI_CONTEXT *context, size_t *size,
                                            uint8_t *response, int32_t timeout) {
    return Tss2_Tcti_Receive(context, size, response, timeout);
}
/* The descriptor that an answer comes over, or -1 where there is none to wait for. */
static inline int holdfast_tcti_descriptor(TSS2_TCTI_CONTEXT *context) {
    TSS2_TCTI_POLL_HANDLE handles[4];
    size_t count = sizeof(handles) / sizeof(handles[0]);
    if (Tss2_Tcti_GetPollHandles(context, handles, &count) != TSS2_RC_SUCCESS || count != 1)
        return -1;
    return handles[0].fd;
}
/* Arithmetic macros are not imported either: a response is not ready yet, ask again. */
static const TSS2_RC holdfast_tcti_rc_try_again = TSS2_TCTI_RC_TRY_AGAIN;
static const TSS2_RC holdfast_tcti_rc_io_error = TSS2_TCTI_RC_IO_ERROR;
static const TSS2_RC holdfast_tcti_rc_no_connection = TSS2_TCTI_RC_NO_CONNECTION;

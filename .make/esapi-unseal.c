/* What an ESAPI user would write: load, salted policy session with encrypted parameters, PolicyPCR,
 * unseal, flush. For each line on standard input once; the microseconds go to standard output.
 *
 *   esapi-unseal TCTI PUBLIC PRIVATE
 *
 * A peer of `make bench`; nothing of the product. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tctildr.h>

static void check(TSS2_RC rc, const char *what)
{
    if (rc == TSS2_RC_SUCCESS)
        return;
    fprintf(stderr, "esapi-unseal: %s: 0x%x\n", what, rc);
    exit(1);
}

static size_t content(const char *path, uint8_t *buffer, size_t size)
{
    FILE *file = fopen(path, "rb");
    size_t count = file ? fread(buffer, 1, size, file) : 0;
    if (file)
        fclose(file);
    return count;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

int main(int count, char **arguments)
{
    if (count != 4)
        return 64;
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
    check(Tss2_TctiLdr_Initialize(arguments[1], &tcti), "tcti");
    check(Esys_Initialize(&esys, tcti, NULL), "initialize");

    uint8_t bytes[2048];
    size_t offset = 0;
    TPM2B_PUBLIC area = {0};
    TPM2B_PRIVATE blob = {0};
    size_t size = content(arguments[2], bytes, sizeof bytes);
    check(Tss2_MU_TPM2B_PUBLIC_Unmarshal(bytes, size, &offset, &area), "public");
    size = content(arguments[3], bytes, sizeof bytes);
    offset = 0;
    check(Tss2_MU_TPM2B_PRIVATE_Unmarshal(bytes, size, &offset, &blob), "private");

    TPM2B_PUBLIC template = {.publicArea = {
        .type = TPM2_ALG_ECC, .nameAlg = TPM2_ALG_SHA256, .objectAttributes = 0x00030472,
        .parameters.eccDetail = {
            .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
            .scheme.scheme = TPM2_ALG_NULL, .curveID = TPM2_ECC_NIST_P256,
            .kdf.scheme = TPM2_ALG_NULL}}};
    TPM2B_SENSITIVE_CREATE sensitive = {0};
    TPM2B_DATA data = {0};
    TPML_PCR_SELECTION none = {0};
    TPML_PCR_SELECTION selection = {.count = 1, .pcrSelections = {
        {.hash = TPM2_ALG_SHA256, .sizeofSelect = 3, .pcrSelect = {0x80, 0, 0}}}};
    TPMT_SYM_DEF cipher = {
        .algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB};
    TPM2B_DIGEST nothing = {0};
    ESYS_TR parent;
    check(Esys_CreatePrimary(esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
              &sensitive, &template, &data, &none, &parent, NULL, NULL, NULL, NULL), "parent");

    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        double start = now();
        ESYS_TR object, session;
        TPM2B_SENSITIVE_DATA *secret;
        check(Esys_Load(esys, parent, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &blob, &area,
                  &object), "load");
        check(Esys_StartAuthSession(esys, parent, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                  ESYS_TR_NONE, NULL, TPM2_SE_POLICY, &cipher, TPM2_ALG_SHA256, &session),
            "session");
        check(Esys_TRSess_SetAttributes(esys, session, TPMA_SESSION_ENCRYPT, 0xff), "attributes");
        check(Esys_PolicyPCR(esys, session, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &nothing,
                  &selection), "policy");
        check(Esys_Unseal(esys, object, session, ESYS_TR_NONE, ESYS_TR_NONE, &secret), "unseal");
        check(Esys_FlushContext(esys, object), "flush");
        printf("%.1f\n", now() - start);
        fflush(stdout);
        Esys_Free(secret);
    }
    Esys_FlushContext(esys, parent);
    Esys_Finalize(&esys);
    Tss2_TctiLdr_Finalize(&tcti);
    return 0;
}

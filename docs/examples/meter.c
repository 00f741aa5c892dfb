#include <holdfast.h>
#include <stdio.h>
#include <string.h>

/* Usage: meter VENDOR STATE TPM; a product has the vendor's id in its source. */
int main(int count, char **given) {
    if (count != 4) return 64;
    holdfast_guard *license = holdfast_open(given[1], "scanner", given[2], given[3]);
    holdfast_decision *decision = holdfast_check(license, "scan");
    int result = HOLDFAST_REFUSED;
    if (holdfast_decision_allowed(decision)) {
        puts("scanning");
        result = holdfast_meter(license, "scan", 3);
        puts(result == HOLDFAST_OK ? "metered" : holdfast_error_message());
        uint8_t key[HOLDFAST_SECRET_SIZE];
        if (holdfast_secret(license, "scan", key) == HOLDFAST_OK) puts("a secret of 32 bytes");
        else puts(holdfast_error_message());
        explicit_bzero(key, sizeof key);
    } else {
        const char *advice = holdfast_decision_advice(decision);
        printf("not scanning: %s\n", holdfast_decision_message(decision));
        if (advice) printf("to do: %s\n", advice);
    }
    holdfast_decision_free(decision);
    holdfast_close(license);
    return result;
}

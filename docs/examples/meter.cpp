#include <holdfast.h>
#include <iostream>
#include <memory>

// Usage: meter VENDOR STATE TPM; a product has the vendor's id in its source.
int main(int count, char **given) {
    if (count != 4) return 64;
    std::unique_ptr<holdfast_guard, decltype(&holdfast_close)> license(
        holdfast_open(given[1], "scanner", given[2], given[3]), holdfast_close);
    std::unique_ptr<holdfast_feature, decltype(&holdfast_feature_free)> scan(
        holdfast_feature_open(license.get(), "scan"), holdfast_feature_free);
    // Tells now, and again whenever it changes.
    holdfast_watch(
        license.get(), "scan",
        [](void *, const holdfast_decision *decision) {
            std::cout << holdfast_decision_state(decision) << ": "
                      << holdfast_decision_message(decision) << std::endl;
        },
        nullptr);
    if (!holdfast_feature_is_allowed(scan.get())) return HOLDFAST_REFUSED;
    auto result = holdfast_meter(license.get(), "scan", 4);
    std::cout << (result == HOLDFAST_OK ? "metered" : holdfast_error_message()) << std::endl;
    return result;
}

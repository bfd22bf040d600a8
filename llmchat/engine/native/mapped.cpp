// What happens where a mapped file was cut off: the system sends SIGBUS, and zeros are put where its bytes were.

#include "mapped.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <system_error>

namespace llmchat {

namespace {

struct Watched {
    std::atomic<uintptr_t> base{0};  // 0: free
    std::atomic<size_t> bytes{0};
    std::atomic<bool> is_torn{false};
};

constexpr int kMostWatched = 64;
constexpr size_t kAtOnce = 16u << 20;
Watched watched[kMostWatched];
struct sigaction before;
std::mutex taking;

// Runs wherever the fault was, so it calls nothing but the system.
void on_cut_off(int, siginfo_t* told, void*) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(told->si_addr), page_bytes = uintptr_t(sysconf(_SC_PAGESIZE));
    for (Watched& one : watched) {
        const uintptr_t base = one.base.load(), bytes = one.bytes.load();
        if (!base || at < base || at >= base + bytes) continue;
        void* page = reinterpret_cast<void*>(at / page_bytes * page_bytes);
        one.is_torn.store(true);
        if (mmap(page, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) return;
    }
    sigaction(SIGBUS, &before, nullptr);  // It was somebody else's: the fault comes again and is treated as ever.
}

bool watch_over_faults() {
    static const bool is_done = [] {
        struct sigaction own = {};
        own.sa_sigaction = on_cut_off;
        own.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigemptyset(&own.sa_mask);
        return !sigaction(SIGBUS, &own, &before);
    }();
    return is_done;
}

int watch(const void* base, size_t bytes) {
    const std::lock_guard<std::mutex> lock(taking);
    for (int i = 0; i < kMostWatched; i++) {
        if (watched[i].base.load()) continue;
        watched[i].bytes.store(bytes), watched[i].is_torn.store(false);
        watched[i].base.store(reinterpret_cast<uintptr_t>(base));
        return i;
    }
    return -1;
}

}  // namespace

Mapped* Mapped::open(int file, size_t bytes) {
    if (!bytes || !watch_over_faults()) return nullptr;
    void* base = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (base == MAP_FAILED) return nullptr;
    const int place = watch(base, bytes);
    Mapped* mapped = place < 0 ? nullptr : new (std::nothrow) Mapped(static_cast<const uint8_t*>(base), bytes, place);
    if (!mapped) {
        if (place >= 0) watched[place].base.store(0);
        munmap(base, bytes);
        return nullptr;
    }
#if defined(MADV_HUGEPAGE)
    madvise(base, bytes, MADV_HUGEPAGE);
#endif
    mapped->read_ahead();
    return mapped;
}

// Has the system read the file and list its pages, on a thread of its own, before they are asked for one by one.
void Mapped::read_ahead() {
#if defined(MADV_POPULATE_READ)
    try {
        reading_ = std::thread([this] {
            for (size_t at = 0; at < bytes_ && !over_.load(); at += kAtOnce) {
                if (madvise(const_cast<uint8_t*>(base_) + at, std::min(kAtOnce, bytes_ - at), MADV_POPULATE_READ)) return;
            }
        });
    } catch (const std::system_error&) {
    }
#endif
}

bool Mapped::is_torn() const { return watched[watched_].is_torn.load(std::memory_order_relaxed); }

Mapped::~Mapped() {
    over_.store(true);
    if (reading_.joinable()) reading_.join();
    munmap(const_cast<uint8_t*>(base_), bytes_);
    watched[watched_].base.store(0);
}

}  // namespace llmchat

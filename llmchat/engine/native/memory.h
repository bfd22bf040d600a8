// Where weights and activations lie.

#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "decode.h"

namespace llmchat {

// Zeroed, in huge pages where the system gives them.
struct Memory {
    void* base = nullptr;
    size_t bytes = 0;
    explicit Memory(size_t wanted) : bytes((wanted + (2u << 20) - 1) & ~size_t((2u << 20) - 1)) {
        if (!bytes) return;
        void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) throw std::bad_alloc();
        base = found;
#if defined(MADV_HUGEPAGE)
        madvise(base, bytes, MADV_HUGEPAGE);
#endif
    }
    ~Memory() {
        settle();
        if (base) munmap(base, bytes);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    // Has the system give the pages now, on a thread of its own, and not when they are first written to. What is
    // written meanwhile stays.
    void populate() {
#if defined(MADV_POPULATE_WRITE)
        try {
            populating_ = std::thread([this] {
                for (size_t at = 0; at < bytes && !over_.load(); at += kAtOnce) {
                    const size_t count = std::min(kAtOnce, bytes - at);
                    if (madvise(static_cast<uint8_t*>(base) + at, count, MADV_POPULATE_WRITE)) return;
                }
            });
        } catch (const std::system_error&) {
        }
#endif
    }

    // Ends that.
    void settle() {
        over_.store(true);
        if (populating_.joinable()) populating_.join();
    }

    // Gives back the pages from some byte on; they read as zero.
    void give_back(size_t from) {
        settle();
        from = (from + 4095) & ~size_t(4095);
        if (from < bytes) madvise(static_cast<uint8_t*>(base) + from, bytes - from, MADV_DONTNEED);
    }

private:
    static constexpr size_t kAtOnce = 4u << 20;
    std::thread populating_;
    std::atomic<bool> over_{false};
};

// Gives out pieces of a few large areas, one behind the other: a matrix with pages of its own would waste up to
// two megabytes. What is never written to takes no memory.
class Arena {
public:
    uint8_t* take(size_t bytes) {
        bytes = (bytes + 63) & ~size_t(63);
        if (bytes > left_) add(std::make_unique<Memory>(std::max(bytes, kArea)));
        uint8_t* taken = next_;
        next_ += bytes, left_ -= bytes;
        return taken;
    }

    // Goes on in a new area.
    void add(std::unique_ptr<Memory> area) {
        give_back_rest();
        areas_.push_back(std::move(area));
        next_ = static_cast<uint8_t*>(areas_.back()->base);
        left_ = areas_.back()->bytes;
    }

    // Once nothing more is taken: what is left of the last area.
    void give_back_rest() {
        if (!areas_.empty()) areas_.back()->give_back(areas_.back()->bytes - left_);
    }

private:
    static constexpr size_t kArea = 256u << 20;
    std::vector<std::unique_ptr<Memory>> areas_;
    uint8_t* next_ = nullptr;
    size_t left_ = 0;
};

// Activations of up to `cols` columns and what they point to, whole superblocks of it.
class ActivationMemory {
public:
    explicit ActivationMemory(int cols) : own_(cols), outliers_(cols) {
        view = own_.view, view.outliers = &outliers_.view, view.outlying = own_.outlying.data();
    }
    ActivationMemory(const ActivationMemory&) = delete;
    ActivationMemory& operator=(const ActivationMemory&) = delete;

    Activations view;

private:
    struct Part {
        std::vector<int8_t> low, high;
        std::vector<int16_t> whole;
        std::vector<float> scale;
        std::vector<int32_t> total, outlying;
        Activations view;
        explicit Part(int cols) {
            cols = (cols + kSuper - 1) / kSuper * kSuper;
            low.resize(cols), high.resize(cols), whole.resize(cols);
            scale.resize(cols / kGroup), total.resize(cols / kHalf), outlying.resize(cols / kGroup);
            view.low = low.data(), view.high = high.data(), view.whole = whole.data();
            view.scale = scale.data(), view.total = total.data();
        }
    };
    Part own_, outliers_;
};

// Packed tiles for some positions of up to `cols` columns.
class PackedMemory {
public:
    PackedMemory(int positions, int cols) : tiles((positions + kTile - 1) / kTile) {
        const size_t columns = (cols + kSuper - 1) / kSuper * kSuper, of_tile = columns / 2 * kTile, groups = columns / kGroup * kTile;
        digits_.resize(of_tile * tiles.size()), scale_.resize(groups * tiles.size()), total_.resize(2 * groups * tiles.size());
        for (size_t i = 0; i < tiles.size(); i++) tiles[i] = {&digits_[i * of_tile], &scale_[i * groups], &total_[i * 2 * groups]};
    }
    PackedMemory(const PackedMemory&) = delete;
    PackedMemory& operator=(const PackedMemory&) = delete;

    std::vector<PackedTile> tiles;

private:
    std::vector<int32_t> digits_, total_;
    std::vector<float> scale_;
};

}  // namespace llmchat

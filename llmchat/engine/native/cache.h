// The KV cache of one sequence.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "decode.h"
#include "memory.h"

namespace llmchat {

// The first position that a position of a layer sees; a window of 0 is all.
inline int first_seen(int window, int position) { return window ? std::max(position + 1 - window, 0) : 0; }

// What a cache holds of a layer: how many positions it sees, 0 for all, and bytes of a page, 0 where it has no keys of its own.
struct Held {
    int window;
    size_t bytes;
    bool operator==(const Held&) const = default;
};

// Keys and values in pages of kStretch positions, for each layer apart. A text that grows takes pages and moves none.
// A layer with a window holds those that the next position sees, and those that a marked length needs to go on from.
class Cache {
public:
    explicit Cache(std::vector<Held> held) : held_(std::move(held)), tables_(held_.size()), free_(held_.size()) {
        marks_.reserve(kMarks);
    }

    bool is_of(const std::vector<Held>& held) const { return held == held_; }
    bool is_like(const Cache& other) const { return other.is_of(held_); }

    // Null where there is none.
    uint8_t* page(int layer, int stretch) const { return stretch < int(tables_[layer].size()) ? tables_[layer][stretch] : nullptr; }

    // Whether a text can go on behind its first `length` positions.
    bool holds(int length) const {
        for (int layer = 0; layer < layers(); layer++) {
            if (!has_pages(layer, first_seen(held_[layer].window, length), length)) return false;
        }
        return true;
    }

    // Whether there is a place for a position, and all that it sees.
    bool serves(int position) const {
        for (int layer = 0; layer < layers(); layer++) {
            if (!has_pages(layer, first_seen(held_[layer].window, position), position + 1)) return false;
        }
        return true;
    }

    void reserve(int length, int end) {
        for (int layer = 0; layer < layers(); layer++) {
            release(layer, [&](int stretch) { return is_needed(layer, stretch, length, end); });
            for (int stretch = length / kStretch; held_[layer].bytes && stretch * kStretch < end; stretch++) place(layer, stretch);
        }
    }

    int rewind(int length) {
        while (length > 0 && !holds(length)) length--;
        std::erase_if(marks_, [&](int mark) { return mark > length; });
        for (int layer = 0; layer < layers(); layer++) {
            release(layer, [&](int stretch) { return stretch * kStretch < length && is_needed(layer, stretch, length, length); });
        }
        return length;
    }

    void mark(int length) {
        if (!marks_.empty() && marks_.back() == length) return;
        if (marks_.size() == kMarks) marks_.erase(marks_.begin());
        marks_.push_back(length);
    }

    void copy(const Cache& other, int length) {
        each_page(length, [&](int layer, int stretch) { std::memcpy(place(layer, stretch), other.page(layer, stretch), held_[layer].bytes); });
    }

    // Bytes of the pages that a text sees behind its first `length` positions, whether they are there or not.
    size_t image_bytes(int length) const {
        size_t bytes = 0;
        each_page(length, [&](int layer, int) { bytes += held_[layer].bytes; });
        return bytes;
    }

    void write_image(int length, uint8_t* to) const {
        each_page(length, [&](int layer, int stretch) { to = static_cast<uint8_t*>(std::memcpy(to, page(layer, stretch), held_[layer].bytes)) + held_[layer].bytes; });
    }

    void read_image(int length, const uint8_t* from) {
        each_page(length, [&](int layer, int stretch) {
            std::memcpy(place(layer, stretch), from, held_[layer].bytes);
            from += held_[layer].bytes;
        });
    }

    size_t bytes() const {
        size_t sum = 0;
        for (int layer = 0; layer < layers(); layer++) {
            const auto& table = tables_[layer];
            sum += (table.size() - std::count(table.begin(), table.end(), nullptr)) * held_[layer].bytes;
        }
        return sum;
    }

private:
    static constexpr size_t kMarks = 2;  // the ends of the present prompt and of the one before

    int layers() const { return int(held_.size()); }

    // The pages that a text sees behind its first `length` positions.
    template <typename Use>
    void each_page(int length, Use use) const {
        for (int layer = 0; layer < layers(); layer++) {
            if (!held_[layer].bytes) continue;
            for (int stretch = first_seen(held_[layer].window, length) / kStretch; stretch * kStretch < length; stretch++) use(layer, stretch);
        }
    }

    bool has_pages(int layer, int from, int end) const {
        if (!held_[layer].bytes) return true;
        for (int stretch = from / kStretch; stretch * kStretch < end; stretch++) {
            if (!page(layer, stretch)) return false;
        }
        return true;
    }

    // Whether a page has positions that those from `length` to `end` see, or those behind a marked length.
    bool is_needed(int layer, int stretch, int length, int end) const {
        const int window = held_[layer].window, first = stretch * kStretch, last = first + kStretch;
        const auto sees = [&](int from, int to) { return first_seen(window, from) < last && first < to; };
        return sees(length, end) || std::any_of(marks_.begin(), marks_.end(), [&](int mark) { return sees(mark, mark); });
    }

    // Lets go of a layer's pages that are not needed, if it has a window.
    template <typename IsNeeded>
    void release(int layer, IsNeeded is_needed) {
        for (int stretch = 0; held_[layer].window && stretch < int(tables_[layer].size()); stretch++) {
            uint8_t*& page = tables_[layer][stretch];
            if (page && !is_needed(stretch)) free_[layer].push_back(std::exchange(page, nullptr));
        }
    }

    // A page where there was none.
    uint8_t* place(int layer, int stretch) {
        auto& table = tables_[layer];
        if (int(table.size()) <= stretch) table.resize(stretch + 1);
        if (!table[stretch]) table[stretch] = take(layer);
        return table[stretch];
    }

    // A page of zeros.
    uint8_t* take(int layer) {
        const size_t bytes = held_[layer].bytes;
        if (!free_[layer].empty()) {
            uint8_t* page = free_[layer].back();
            free_[layer].pop_back();
            std::memset(page, 0, bytes);
            return page;
        }
        if (left_ < bytes) {
            size_t all = 0;
            for (const Held& held : held_) all += held.bytes;
            slabs_.push_back(std::make_unique<Memory>(all));
            next_ = static_cast<uint8_t*>(slabs_.back()->base), left_ = slabs_.back()->bytes;
        }
        left_ -= bytes;
        return std::exchange(next_, next_ + bytes);
    }

    std::vector<Held> held_;
    std::vector<std::vector<uint8_t*>> tables_;  // by layer and stretch of positions
    std::vector<int> marks_;
    std::vector<std::vector<uint8_t*>> free_;    // by layer
    std::vector<std::unique_ptr<Memory>> slabs_;  // of a page for each layer at least
    uint8_t* next_ = nullptr;
    size_t left_ = 0;
};

}  // namespace llmchat

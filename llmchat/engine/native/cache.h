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

// Keys and values in pages of kStretch positions, for each layer apart. A text that grows takes pages and moves none.
// A layer with a window holds those that the next position sees, and those that a marked length needs to go on from.
class Cache {
public:
    Cache(std::vector<int> windows, size_t page_bytes) : windows_(std::move(windows)), page_bytes_(page_bytes), tables_(windows_.size()) {
        marks_.reserve(kMarks);
    }

    bool is_of(const std::vector<int>& windows, size_t page_bytes) const { return page_bytes == page_bytes_ && windows == windows_; }
    bool is_like(const Cache& other) const { return other.is_of(windows_, page_bytes_); }

    // Null where there is none.
    uint8_t* page(int layer, int stretch) const { return stretch < int(tables_[layer].size()) ? tables_[layer][stretch] : nullptr; }

    // Whether a text can go on behind its first `length` positions.
    bool holds(int length) const {
        for (int layer = 0; layer < layers(); layer++) {
            if (!has_pages(layer, first_seen(windows_[layer], length), length)) return false;
        }
        return true;
    }

    // Whether there is a place for a position, and all that it sees.
    bool serves(int position) const {
        for (int layer = 0; layer < layers(); layer++) {
            if (!has_pages(layer, first_seen(windows_[layer], position), position + 1)) return false;
        }
        return true;
    }

    void reserve(int length, int end) {
        for (int layer = 0; layer < layers(); layer++) {
            release(layer, [&](int stretch) { return is_needed(layer, stretch, length, end); });
            for (int stretch = length / kStretch; stretch * kStretch < end; stretch++) place(layer, stretch);
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
        each_page(length, [&](int layer, int stretch) { std::memcpy(place(layer, stretch), other.page(layer, stretch), page_bytes_); });
    }

    // Bytes of the pages that a text sees behind its first `length` positions, whether they are there or not.
    size_t image_bytes(int length) const {
        size_t pages = 0;
        each_page(length, [&](int, int) { pages++; });
        return pages * page_bytes_;
    }

    void write_image(int length, uint8_t* to) const {
        each_page(length, [&](int layer, int stretch) { to = static_cast<uint8_t*>(std::memcpy(to, page(layer, stretch), page_bytes_)) + page_bytes_; });
    }

    void read_image(int length, const uint8_t* from) {
        each_page(length, [&](int layer, int stretch) {
            std::memcpy(place(layer, stretch), from, page_bytes_);
            from += page_bytes_;
        });
    }

    size_t bytes() const {
        size_t pages = 0;
        for (const auto& table : tables_) pages += table.size() - std::count(table.begin(), table.end(), nullptr);
        return pages * page_bytes_;
    }

private:
    static constexpr size_t kMarks = 2;  // the ends of the present prompt and of the one before

    int layers() const { return int(windows_.size()); }

    // The pages that a text sees behind its first `length` positions.
    template <typename Use>
    void each_page(int length, Use use) const {
        for (int layer = 0; layer < layers(); layer++) {
            for (int stretch = first_seen(windows_[layer], length) / kStretch; stretch * kStretch < length; stretch++) use(layer, stretch);
        }
    }

    bool has_pages(int layer, int from, int end) const {
        for (int stretch = from / kStretch; stretch * kStretch < end; stretch++) {
            if (!page(layer, stretch)) return false;
        }
        return true;
    }

    // Whether a page has positions that those from `length` to `end` see, or those behind a marked length.
    bool is_needed(int layer, int stretch, int length, int end) const {
        const int window = windows_[layer], first = stretch * kStretch, last = first + kStretch;
        const auto sees = [&](int from, int to) { return first_seen(window, from) < last && first < to; };
        return sees(length, end) || std::any_of(marks_.begin(), marks_.end(), [&](int mark) { return sees(mark, mark); });
    }

    // Lets go of a layer's pages that are not needed, if it has a window.
    template <typename IsNeeded>
    void release(int layer, IsNeeded is_needed) {
        for (int stretch = 0; windows_[layer] && stretch < int(tables_[layer].size()); stretch++) {
            uint8_t*& page = tables_[layer][stretch];
            if (page && !is_needed(stretch)) free_.push_back(std::exchange(page, nullptr));
        }
    }

    // A page where there was none.
    uint8_t* place(int layer, int stretch) {
        auto& table = tables_[layer];
        if (int(table.size()) <= stretch) table.resize(stretch + 1);
        if (!table[stretch]) table[stretch] = take();
        return table[stretch];
    }

    // A page of zeros.
    uint8_t* take() {
        if (!free_.empty()) {
            uint8_t* page = free_.back();
            free_.pop_back();
            std::memset(page, 0, page_bytes_);
            return page;
        }
        if (left_ < page_bytes_) {
            slabs_.push_back(std::make_unique<Memory>(page_bytes_ * windows_.size()));
            next_ = static_cast<uint8_t*>(slabs_.back()->base), left_ = slabs_.back()->bytes;
        }
        left_ -= page_bytes_;
        return std::exchange(next_, next_ + page_bytes_);
    }

    std::vector<int> windows_;
    size_t page_bytes_;
    std::vector<std::vector<uint8_t*>> tables_;  // by layer and stretch of positions
    std::vector<int> marks_;
    std::vector<uint8_t*> free_;
    std::vector<std::unique_ptr<Memory>> slabs_;  // of a page for each layer at least
    uint8_t* next_ = nullptr;
    size_t left_ = 0;
};

}  // namespace llmchat

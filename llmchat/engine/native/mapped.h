// A file that is mapped and may be cut off while it is.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace llmchat {

// A file's bytes, shared with whoever maps it too, and given back by the system at need. What is read of a part that
// was cut off is zeros, not the end of the process; `is_torn` tells.
class Mapped {
public:
    // Null where it cannot be mapped, or where as many as can be watched over already are.
    static Mapped* open(int file, size_t bytes);
    ~Mapped();
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;

    const uint8_t* base() const { return base_; }
    size_t bytes() const { return bytes_; }
    bool is_torn() const;

private:
    Mapped(const uint8_t* base, size_t bytes, int watched) : base_(base), bytes_(bytes), watched_(watched) {}
    void read_ahead();

    const uint8_t* base_;
    size_t bytes_;
    int watched_;
    std::thread reading_;
    std::atomic<bool> over_{false};
};

}  // namespace llmchat

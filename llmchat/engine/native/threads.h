// A few threads that work on one job together and meet between its parts.

#pragma once

#include <sched.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace llmchat {

// The calling thread is worker 0. Waiting spins for a moment, then yields, so that a
// busy machine gives the processor to whoever has the work.
class Team {
public:
    explicit Team(int size) : size_(size) {
        for (int id = 1; id < size; id++) threads_.emplace_back([this, id] { serve(id); });
    }

    ~Team() {
        over_.store(true);
        job_number_.fetch_add(1);
        job_number_.notify_all();
        for (auto& thread : threads_) thread.join();
    }

    int size() const { return size_; }

    // Runs job(worker) on every worker and returns when all are done.
    void run(const std::function<void(int)>& job) {
        if (size_ == 1) return job(0);
        job_ = &job;
        done_.store(0, std::memory_order_relaxed);
        job_number_.fetch_add(1, std::memory_order_release);
        job_number_.notify_all();
        job(0);
        wait_until([this] { return done_.load(std::memory_order_acquire) == size_ - 1; });
    }

    // Called by every worker of a job: none goes on before all have come.
    void meet() {
        if (size_ == 1) return;
        const int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
        } else {
            wait_until([this, round] { return round_.load(std::memory_order_acquire) != round; });
        }
    }

private:
    template <typename Condition>
    static void wait_until(Condition is_met) {
        for (int tries = 0; !is_met(); tries++) {
            if (tries < 4000) {
#if defined(__x86_64__)
                __builtin_ia32_pause();
#endif
            } else {
                sched_yield();
            }
        }
    }

    void serve(int id) {
        int seen = 0;
        for (;;) {
            for (int tries = 0; job_number_.load(std::memory_order_acquire) == seen; tries++) {
                if (tries < 2000) {
#if defined(__x86_64__)
                    __builtin_ia32_pause();
#endif
                } else {
                    job_number_.wait(seen, std::memory_order_acquire);
                }
            }
            seen = job_number_.load(std::memory_order_acquire);
            if (over_.load()) return;
            (*job_)(id);
            done_.fetch_add(1, std::memory_order_release);
        }
    }

    const int size_;
    std::vector<std::thread> threads_;
    const std::function<void(int)>* job_ = nullptr;
    std::atomic<int> job_number_{0}, done_{0}, arrived_{0}, round_{0};
    std::atomic<bool> over_{false};
};

}  // namespace llmchat

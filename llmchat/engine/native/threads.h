// A few threads that work on one job together and meet between its parts, and how many of them to use.

#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

namespace llmchat {

// How many workers a kind of job gets: as many as make it quicker, found by trying.
// On a busy machine two threads can be slower than one, for each waits for the other to get its
// processor back. So more are tried for a few jobs now and then, less often where that failed,
// and fewer as soon as jobs take longer than they did with fewer.
class Pace {
public:
    // Long jobs begin with all workers, for which waiting counts little; others with one.
    explicit Pace(int most, bool is_long = false) : most_(most), workers_(is_long ? most : 1), usual_(most + 1) {}

    int workers() const { return tried_ ? tried_ : workers_; }

    // Told how long a job took, in any unit that makes jobs comparable.
    void took(double time) {
        if (most_ == 1) return;
        tried_ ? judge(time) : watch(time);
    }

private:
    static constexpr int kTrial = 4;  // jobs that a trial lasts
    static constexpr int kFirstPatience = 16, kMostPatience = 1024, kSettled = 256;  // jobs between trials
    static constexpr double kBetter = 0.97, kWorse = 1.05;  // of the usual time: worth a change

    void watch(double time) {
        double& usual = usual_[workers_];
        usual = usual > 0 ? usual + 0.2 * (time - usual) : time;
        if (++jobs_ == kSettled && workers_ > 1) patience_ = kFirstPatience;
        const int fewer = workers_ / 2, more = std::min(2 * workers_, most_);
        const bool is_known = fewer && usual_[fewer] > 0;
        if (fewer && jobs_ >= (is_known ? kTrial : kSettled) && usual > kWorse * usual_[fewer]) {
            begin_trial(fewer);
        } else if (more > workers_ && jobs_ >= patience_) {
            begin_trial(more);
        }
    }

    void begin_trial(int workers) { tried_ = workers, jobs_ = 0, spent_ = 0; }

    void judge(double time) {
        spent_ += time, jobs_++;
        const bool has_failed = spent_ > kTrial * kBetter * usual_[workers_];
        if (!has_failed && jobs_ < kTrial) return;
        usual_[tried_] = spent_ / jobs_;
        if (has_failed == (tried_ > workers_)) patience_ = std::min(4 * patience_, kMostPatience);
        if (!has_failed) workers_ = tried_;
        tried_ = jobs_ = 0;
    }

    int most_, workers_, tried_ = 0, jobs_ = 0, patience_ = kTrial;
    double spent_ = 0;
    std::vector<double> usual_;  // for each number of workers; 0: not known
};

// The calling thread is worker 0. Waiting spins for a moment, then yields, so that a
// busy machine gives the processor to whoever has the work.
class Team {
public:
    // As many workers as asked for, or fewer where the system gives no more threads.
    explicit Team(int size) : seats_(size - 1) {
        for (; size_ < size; size_++) {
            try {
                seats_[size_ - 1].thread = std::thread([this, id = size_] { serve(seats_[id - 1], id); });
            } catch (const std::system_error&) {
                break;
            }
        }
    }

    ~Team() {
        over_.store(true);
        for (int i = 0; i < size_ - 1; i++) call(seats_[i]), seats_[i].thread.join();
    }

    int size() const { return size_; }

    // How many workers the present job has.
    int active() const { return active_; }

    // Runs job(worker) on the first `workers` workers and returns when all are done.
    void run(int workers, const std::function<void(int)>& job) {
        active_ = workers;
        job_ = &job;
        done_.store(0, std::memory_order_relaxed);
        for (int i = 0; i < workers - 1; i++) call(seats_[i]);
        job(0);
        wait_until([&] { return done_.load(std::memory_order_acquire) == workers - 1; });
    }

    // Called by every worker of a job: none goes on before all have come.
    void meet() {
        if (active_ == 1) return;
        const int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == active_ - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
        } else {
            wait_until([&] { return round_.load(std::memory_order_acquire) != round; });
        }
    }

private:
    struct alignas(64) Seat {
        std::atomic<int> job_number{0};
        std::thread thread;
    };

    static void call(Seat& seat) {
        seat.job_number.fetch_add(1, std::memory_order_release);
        seat.job_number.notify_one();
    }

    template <typename Condition>
    static void wait_until(Condition is_met) {
        for (int tries = 0; !is_met(); tries++) pause(tries, 4000) ? void() : void(sched_yield());
    }

    // Waits a few nanoseconds, unless that has been tried often enough.
    static bool pause(int tries, int most) {
        if (tries >= most) return false;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("isb");
#endif
        return true;
    }

    void serve(Seat& seat, int id) {
        for (int seen = 0; !over_.load();) {
            for (int tries = 0; seat.job_number.load(std::memory_order_acquire) == seen; tries++) {
                if (!pause(tries, 2000)) seat.job_number.wait(seen, std::memory_order_acquire);
            }
            seen = seat.job_number.load(std::memory_order_acquire);
            if (over_.load()) return;
            (*job_)(id);
            done_.fetch_add(1, std::memory_order_release);
        }
    }

    std::vector<Seat> seats_;  // of all workers but the first
    int size_ = 1, active_ = 1;
    const std::function<void(int)>* job_ = nullptr;
    std::atomic<int> done_{0}, arrived_{0}, round_{0};
    std::atomic<bool> over_{false};
};

// Runs a job with as many workers as its kind is quickest with; jobs of one kind take their time by `work`.
inline void run_at_pace(Team& team, Pace& pace, double work, const std::function<void(int)>& job) {
    const auto began = std::chrono::steady_clock::now();
    team.run(pace.workers(), job);
    pace.took(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() / work);
}

}  // namespace llmchat

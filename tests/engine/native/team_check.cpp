// Checks of the team of threads and of how it chooses their number. Ends with 0 if all hold.
//
//     g++ -std=c++20 -O2 -pthread -I llmchat/engine/native tests/engine/native/team_check.cpp -o team_check

#include "threads.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

using llmchat::Pace;
using llmchat::Team;

static void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::exit(1);
}

// Every worker of a job runs once, none of the others does, and no part begins before the one before has ended.
static void check_jobs() {
    constexpr int kSize = 4, kParts = 3;
    Team team(kSize);
    require(team.size() == kSize, "the team is complete");
    unsigned dice = 1;
    for (int job = 0; job < 500; job++) {
        dice = dice * 1103515245 + 12345;
        const int workers = 1 + (dice >> 16) % kSize;
        std::vector<int> done(kSize * kParts);  // plain ints: the meetings alone order the accesses
        team.run(workers, [&](int worker) {
            for (int part = 0; part < kParts; part++) {
                for (int other = 0; part > 0 && other < workers; other++) {
                    require(done[other * kParts + part - 1] == 1, "the part before has ended");
                }
                done[worker * kParts + part]++;
                team.meet();
            }
        });
        for (int i = 0; i < kSize * kParts; i++) require(done[i] == (i / kParts < workers), "each worker ran once");
    }
}

// Lets a pace run steps that take seconds(workers); gives the time they took.
template <typename Seconds>
static double run(Pace& pace, int steps, Seconds seconds) {
    double total = 0;
    for (int i = 0; i < steps; i++) {
        const double took = seconds(pace.workers());
        pace.took(took);
        total += took;
    }
    return total;
}

static void check_pace() {
    const auto free = [](int workers) { return 1.0 / workers + 0.02 * workers; };
    const auto busy = [](int workers) { return workers == 1 ? 1.0 : 8.0; };
    Pace two(2);
    require(run(two, 1000, free) < 1.02 * 1000 * free(2), "two are used where two are quicker");
    require(run(two, 2000, busy) < 1.12 * 2000 * busy(1), "a busy machine costs little more than one thread alone");
    run(two, 1100, free);
    require(two.workers() == 2, "both come back when there is room again");

    Pace many(16);
    run(many, 2000, free);
    require(many.workers() == 8, "of many, as many as are quickest");  // free() is least at about 7
    Pace one(1);
    run(one, 100, free);
    require(one.workers() == 1, "one stays one");
}

int main() {
    check_jobs();
    check_pace();
}

// Which experts each position of a step uses.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "decode.h"
#include "interface.h"

namespace llmchat {

// Every choice of a position has a slot; the slots of one expert lie side by side, so that its matrices are read once.
struct Routing {
    struct Group {
        int expert, first, count;  // slots
    };
    std::vector<Group> groups;
    std::vector<int> position_of;  // of each slot
    std::vector<int> slot_of;      // of each position's choices, by falling score
    std::vector<float> weights;    // of the same

    // `scores` has a row for each position; what comes of `scales` is a factor of each expert's weight. Of equal scores the first expert goes first.
    void choose(const float* scores, size_t stride, const float* bias, const float* scales, const LayerShape& s, int count) {
        const int used = s.experts_used;
        chosen_.clear(), weights.clear();
        for (int t = 0; t < count; t++, scores += stride) choose_for(scores, bias, scales, s);
        groups.clear(), position_of.clear(), slot_of.assign(size_t(count) * used, 0);
        for (int choice = 0; choice < count * used; choice++) {
            const int expert = chosen_[choice];
            const bool is_known = std::any_of(groups.begin(), groups.end(), [&](const Group& g) { return g.expert == expert; });
            if (is_known) continue;
            Group group{expert, int(position_of.size()), 0};
            for (int other = choice; other < count * used; other++) {
                if (chosen_[other] != expert) continue;
                slot_of[other] = int(position_of.size());
                position_of.push_back(other / used), group.count++;
            }
            groups.push_back(group);
        }
    }

private:
    std::vector<int> chosen_, order_;
    std::vector<float> shares_;

    void choose_for(const float* scores, const float* bias, const float* scales, const LayerShape& s) {
        shares_.resize(s.experts), order_.resize(s.experts);
        for (int e = 0; e < s.experts; e++) shares_[e] = scores[e] + (bias ? bias[e] : 0.0f), order_[e] = e;
        const float peak = *std::max_element(shares_.begin(), shares_.end());
        float total = 0, kept = 0;
        for (float& share : shares_) total += share = std::exp(share - peak);
        const auto higher = [&](int a, int b) { return shares_[a] != shares_[b] ? shares_[a] > shares_[b] : a < b; };
        std::partial_sort(order_.begin(), order_.begin() + s.experts_used, order_.end(), higher);
        for (int k = 0; k < s.experts_used; k++) kept += shares_[order_[k]];
        for (int k = 0; k < s.experts_used; k++) {
            chosen_.push_back(order_[k]);
            weights.push_back(shares_[order_[k]] / (s.renormalise ? kept : total) * (scales ? scales[order_[k]] : 1.0f));
        }
    }
};

}  // namespace llmchat

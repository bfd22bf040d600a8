// The matrices of one place in a model, which take the same input.

#pragma once

#include <algorithm>
#include <vector>

#include "decode.h"
#include "memory.h"
#include "threads.h"

namespace llmchat {

// A matrix as the file has it: rows one behind the other.
struct Part {
    Format format;  // that it is kept in
    const uint8_t* data;
    int rows;
    int look_up = -1;  // which of interface.h's LookUp its blocks are; -1 where they are of `format`
    const uint8_t* table = nullptr;
};

// What an adapter adds to the rows from a block on: scale * factor * up * down, both in floats.
struct LowRank {
    Matrix down, up;
    int first_block;
    float factor;
};

// Matrices of the same columns, one below the other; all but the last fill whole blocks of rows.
struct Stack {
    std::vector<Matrix> parts;
    std::vector<LowRank> added;

    int blocks() const {
        int sum = 0;
        for (const Matrix& m : parts) sum += m.blocks();
        return sum;
    }

    size_t bytes() const {
        size_t sum = 0;
        for (const Matrix& m : parts) sum += repacked_bytes(m);
        for (const LowRank& a : added) sum += repacked_bytes(a.down) + repacked_bytes(a.up);
        return sum;
    }

    bool is_quantised() const {
        return std::any_of(parts.begin(), parts.end(), [](const Matrix& m) { return m.is_quantised(); });
    }

    // Repacks what is given, with all threads; neighbours of one format become one matrix.
    // False: where the format changes, the rows before fill no whole block.
    bool fill(const std::vector<Part>& given, int cols, Arena& memory, Team& team) {
        std::vector<Matrix> found;
        for (size_t at = 0; at < given.size();) {
            Matrix m = {given[at].format, 0, cols, nullptr};
            size_t end = at;
            while (end < given.size() && given[end].format == m.format) m.rows += given[end++].rows;
            if (end < given.size() && m.rows % kRows) return false;
            pack(m, &given[at], &given[at] + (end - at), memory, team);
            found.push_back(m);
            at = end;
        }
        parts = std::move(found);
        return true;
    }

    // Takes matrices that were repacked before and stay where they are.
    // False: all but the last fill no whole blocks.
    bool place(const std::vector<Matrix>& given) {
        for (size_t i = 0; i + 1 < given.size(); i++) {
            if (given[i].rows % kRows) return false;
        }
        parts = given;
        return true;
    }

    // Takes a pair of matrices of floats that is added to the rows from a block on.
    void add(const Part& down, const Part& up, int first_block, int cols, float factor, Arena& memory, Team& team) {
        LowRank a = {{down.format, down.rows, cols, nullptr}, {up.format, up.rows, down.rows, nullptr}, first_block, factor};
        pack(a.down, &down, &down + 1, memory, team), pack(a.up, &up, &up + 1, memory, team);
        added.push_back(a);
    }

private:
    static size_t repacked_bytes(const Matrix& m) { return llmchat::repacked_bytes(m.format, m.rows, m.cols); }

    // Gives a matrix its numbers, with all threads.
    static void pack(Matrix& m, const Part* part, const Part* end, Arena& memory, Team& team) {
        uint8_t* to = memory.take(repacked_bytes(m));
        m.data = to;
        team.run(team.size(), [&](int worker) { repack_share(m, part, end, worker, team.size(), to); });
    }

    // One worker's blocks of rows.
    static void repack_share(const Matrix& m, const Part* part, const Part* end, int worker, int workers, uint8_t* to) {
        const int from_row = int(int64_t(m.blocks()) * worker / workers) * kRows;
        const int to_row = int(int64_t(m.blocks()) * (worker + 1) / workers) * kRows;
        const size_t row_bytes = file_row_bytes(m.format, m.cols);
        for (int row = 0; part < end; row += part++->rows) {
            const int first = std::max(row, from_row), last = std::min(row + part->rows, to_row);
            if (first >= last) continue;
            if (part->look_up >= 0) repack_looked_up(*part, first - row, last - row, row, m.cols, to);
            else repack(m.format, part->data + size_t(first - row) * row_bytes, first, last - first, m.cols, to);
        }
    }

    // Some rows of a part, of which the first is row `row` of the matrix; as many at a time as stay in a cache.
    static void repack_looked_up(const Part& part, int first, int end, int row, int cols, uint8_t* to) {
        const size_t blocks = cols / kSuper;
        std::vector<uint8_t> codes(kRows * blocks * kCodedBytes);
        for (int at = first; at < end; at += kRows) {
            const int rows = std::min(kRows, end - at);
            look_up(part.look_up, part.data, at * blocks, (at + rows) * blocks, part.table, codes.data());
            repack(part.format, codes.data(), row + at, rows, cols, to);
        }
    }
};

}  // namespace llmchat

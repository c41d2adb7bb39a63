// Levels of a teacher's rows out of 16-bit words: LevelCode.decode of entropy.py, entry by entry, on the same tables.
//
// In: words, levels that have no code of their own, each row's begin in the tables and number of kept entries.  Out: unit and
// level of the kept entries, row after row, the highest level of a row first, equal ones by rising unit.  Lanes take turns in the order in which the array form works on them all at once.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace {

const int64_t kNoMemory = INT64_MIN;
const int64_t kBits = 12;
const int64_t kLow = 1 << 16;

struct Lane {
  uint64_t state;
  int64_t row, place, left, drift, last, out;
};

// A row's kept entries as numbers that sort as they shall stand: levels fall, units rise.
inline uint64_t packed(int64_t level, int64_t unit) { return (~uint64_t(level) << 32) | uint64_t(unit); }

inline int64_t clip(int64_t value, int64_t size) { return value < 0 ? 0 : (value < size ? value : size - 1); }

}  // namespace

// Tables of LevelCode, all of whole numbers; (C, V) ones are flat.
struct Tables {
  const int64_t *log_prior, *unit, *ahead;            // (C * V,)
  const int64_t *fine, *spread, *left;                // which table
  const int64_t *value, *most;                        // of each level
  const int64_t *push, *last;                         // of how far off a level was
  const int64_t *freq, *below;                        // (tables * symbols,)
  const uint8_t *which;                               // (tables << kBits,): symbol of each slot
  int64_t fines, offs, levels, symbols, units;        // sizes of fine, of push and last, of value and most; symbols, V
};

extern "C" {

// begin, counts (rows,), counts of at least 1; ids, levels (sum of counts,).  0; -1 for words that no rows were coded as; kNoMemory.
int64_t kd_levels_decode(const Tables *tables, const uint16_t *words, int64_t num_words, const int64_t *others, int64_t num_others,
                         const int64_t *begin, const int64_t *counts, int64_t rows, int64_t lanes, int32_t *ids, int32_t *levels) try {
  const Tables &t = *tables;
  if (num_words < 2 * lanes || lanes > rows) return -1;
  std::vector<int64_t> first(rows);
  int64_t total = 0;
  for (int64_t r = 0; r < rows; ++r) {
    first[r] = total;
    total += counts[r];
  }
  std::vector<uint64_t> entries(total);
  std::vector<Lane> at(lanes);
  for (int64_t i = 0; i < lanes; ++i) {
    at[i] = {(uint64_t(words[i]) << 16) + words[lanes + i], i, begin[i], counts[i], 0, 0, first[i]};
  }
  int64_t word = 2 * lanes, other = 0, waiting = lanes;
  while (!at.empty()) {
    size_t going = 0;
    for (size_t i = 0; i < at.size(); ++i) {
      Lane lane = at[i];
      if (lane.place - begin[lane.row] >= t.units) return -1;
      const int64_t wanted = t.log_prior[lane.place] + lane.drift;
      const int64_t table = t.fine[clip(wanted, t.fines)] + t.spread[t.left[lane.left] + t.ahead[lane.place]] + lane.last;
      const int64_t slot = lane.state & ((1 << kBits) - 1);
      int64_t level = t.which[(table << kBits) + slot];
      const int64_t code = table * t.symbols + level;
      lane.state = (lane.state >> kBits) * t.freq[code] + slot - t.below[code];
      if (lane.state < uint64_t(kLow)) {
        if (word == num_words) return -1;
        lane.state = (lane.state << 16) + words[word++];
      }
      if (level == t.symbols - 1 && other < num_others) level = others[other++];
      if (level < 0 || level >= t.levels) return -1;
      int64_t off = t.value[level] - wanted;
      if (off > t.most[level]) off = t.most[level];
      off = clip(off, t.offs);
      lane.drift += t.push[off];
      lane.last = t.last[off];
      if (level > 0) {
        entries[lane.out++] = packed(level, t.unit[lane.place]);
        --lane.left;
      }
      ++lane.place;
      if (lane.left == 0) {
        std::sort(entries.begin() + first[lane.row], entries.begin() + lane.out);
        if (waiting == rows) continue;  // the lane ends
        lane.row = waiting++;
        lane.place = begin[lane.row];
        lane.left = counts[lane.row];
        lane.out = first[lane.row];
        lane.drift = lane.last = 0;
      }
      at[going++] = lane;
    }
    at.resize(going);
  }
  for (int64_t i = 0; i < total; ++i) {
    ids[i] = int32_t(entries[i] & 0xFFFFFFFFu);
    levels[i] = int32_t(~entries[i] >> 32);
  }
  return word == num_words && other == num_others ? 0 : -1;
} catch (const std::bad_alloc &) {
  return kNoMemory;
}

}  // extern "C"

// The code of levels of rans.py, entry by entry, on the same tables: LevelCode.encode and LevelCode.decode.
//
// In: levels (N, V), each row's begin in the tables and number of kept entries.  Out: 16-bit words, levels that have no code of their
// own.  And back: unit and level of the kept entries, row after row, the highest level of a row first, equal ones by rising unit.
// Lanes take turns in the order in which the array form works on them all at once.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace {

const int64_t kNoMemory = INT64_MIN;
const int64_t kBits = 12;
const int64_t kLow = 1 << 16;

// A row in work: its place in the tables, kept entries still to come, what the entries so far say; number: of the lane.
struct Lane {
  int64_t number, row, place, left, drift, last, out;
  uint64_t state;
};

// A row's kept entries as numbers that sort as they shall stand: levels fall, units rise.
inline uint64_t packed(int64_t level, int64_t unit) { return (~uint64_t(level) << 32) | uint64_t(unit); }

inline int64_t clip(int64_t value, int64_t size) { return value < 0 ? 0 : (value < size ? value : size - 1); }

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

// Which table codes the entry at which a lane stands; ``wanted``: the level's logarithm that is expected.
inline int64_t table_of(const Tables &t, const Lane &lane, int64_t *wanted) {
  *wanted = t.log_prior[lane.place] + lane.drift;
  return t.fine[clip(*wanted, t.fines)] + t.spread[t.left[lane.left] + t.ahead[lane.place]] + lane.last;
}

// What a level says of those to come.
inline void learn(const Tables &t, Lane *lane, int64_t wanted, int64_t level) {
  const int64_t off = clip(std::min(t.value[level] - wanted, t.most[level]), t.offs);
  lane->drift += t.push[off];
  lane->last = t.last[off];
  lane->left -= level > 0;
  ++lane->place;
}

// One coded symbol.
struct Coded {
  uint32_t lane;
  uint16_t freq, below;
};

struct Encoded {
  std::vector<uint16_t> words;
  std::vector<int64_t> others;
};

// The words of symbols in the order of their coding: the last one is coded first, so that they are read from the front.
void write_words(const std::vector<Coded> &coded, int64_t lanes, std::vector<uint16_t> *words) {
  std::vector<uint64_t> state(lanes, kLow);
  for (size_t i = coded.size(); i-- > 0;) {
    uint64_t &x = state[coded[i].lane];
    const uint64_t freq = coded[i].freq;
    if (x >= freq << (32 - kBits)) {
      words->push_back(uint16_t(x));
      x >>= 16;
    }
    x = ((x / freq) << kBits) + x % freq + coded[i].below;
  }
  for (int64_t i = lanes; i-- > 0;) words->push_back(uint16_t(state[i]));
  for (int64_t i = lanes; i-- > 0;) words->push_back(uint16_t(state[i] >> 16));
  std::reverse(words->begin(), words->end());
}

template <typename Level>
void encode(const Tables &t, const Level *levels, const int64_t *begin, const int64_t *counts, int64_t rows, int64_t lanes, Encoded *out) {
  std::vector<Coded> coded;
  std::vector<Lane> at(lanes);
  for (int64_t i = 0; i < lanes; ++i) at[i] = {i, i, begin[i], counts[i], 0, 0, 0, 0};
  int64_t waiting = lanes;
  while (!at.empty()) {
    size_t going = 0;
    for (size_t i = 0; i < at.size(); ++i) {
      Lane lane = at[i];
      int64_t wanted;
      const int64_t table = table_of(t, lane, &wanted), level = levels[lane.row * t.units + t.unit[lane.place]];
      int64_t symbol = std::min(level, t.symbols - 1);
      if (t.freq[table * t.symbols + symbol] == 0) symbol = t.symbols - 1;
      if (symbol == t.symbols - 1) out->others.push_back(level);
      const int64_t code = table * t.symbols + symbol;
      coded.push_back({uint32_t(lane.number), uint16_t(t.freq[code]), uint16_t(t.below[code])});
      learn(t, &lane, wanted, level);
      if (lane.left == 0) {
        if (waiting == rows) continue;  // the lane ends
        const int64_t row = waiting++;
        lane = {lane.number, row, begin[row], counts[row], 0, 0, 0, 0};
      }
      at[going++] = lane;
    }
    at.resize(going);
  }
  write_words(coded, lanes, &out->words);
}

}  // namespace

extern "C" {

// levels (rows, V) of 1 or 2 bytes each, counts (rows,) how many of them are above 0, at least 1.  The numbers of words and of other
// levels, to be fetched; null without memory.
void *kd_levels_encode(const Tables *tables, const void *levels, int64_t bytes, const int64_t *begin, const int64_t *counts, int64_t rows,
                       int64_t lanes, int64_t *num_words, int64_t *num_others) try {
  std::unique_ptr<Encoded> out(new Encoded);
  if (bytes == 1) {
    encode(*tables, static_cast<const uint8_t *>(levels), begin, counts, rows, lanes, out.get());
  } else {
    encode(*tables, static_cast<const uint16_t *>(levels), begin, counts, rows, lanes, out.get());
  }
  *num_words = int64_t(out->words.size());
  *num_others = int64_t(out->others.size());
  return out.release();
} catch (const std::bad_alloc &) {
  return nullptr;
}

// Copies what was encoded, and frees it.
void kd_levels_fetch(void *encoded, uint16_t *words, int64_t *others) {
  std::unique_ptr<Encoded> out(static_cast<Encoded *>(encoded));
  std::copy(out->words.begin(), out->words.end(), words);
  std::copy(out->others.begin(), out->others.end(), others);
}

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
    at[i] = {i, i, begin[i], counts[i], 0, 0, first[i], (uint64_t(words[i]) << 16) + words[lanes + i]};
  }
  int64_t word = 2 * lanes, other = 0, waiting = lanes;
  while (!at.empty()) {
    size_t going = 0;
    for (size_t i = 0; i < at.size(); ++i) {
      Lane lane = at[i];
      if (lane.place - begin[lane.row] >= t.units) return -1;
      int64_t wanted;
      const int64_t table = table_of(t, lane, &wanted);
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
      if (level > 0) entries[lane.out++] = packed(level, t.unit[lane.place]);
      learn(t, &lane, wanted, level);
      if (lane.left == 0) {
        std::sort(entries.begin() + first[lane.row], entries.begin() + lane.out);
        if (waiting == rows) continue;  // the lane ends
        const int64_t row = waiting++;
        lane = {lane.number, row, begin[row], counts[row], 0, 0, first[row], lane.state};
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

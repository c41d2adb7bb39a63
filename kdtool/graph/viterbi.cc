// Best path of one utterance through its training graph: exact, frame by frame over all states that can be on a path.
//
// In: the graph's arcs (states 0 = start, 1 + h = HMM state h, H + 1 = final), each HMM state's column of the scores, and
// the scores. Out: the HMM state of each frame and the path's score. Plain C interface, no dependencies;
// kdtool/core/native.py compiles and loads it, kdtool/graph/viterbi.py calls it.
//
// Sums are double. Of ways into a state that are equally good the one whose source has the smallest number wins. A first
// pass over all frames keeps the sums before each block of about sqrt(T) frames. Then, last block first, a second pass
// over those states that lead to the block's last state, which is known by then, finds the way back: it costs little, and
// memory grows with H sqrt(T) only.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

namespace {

const double NONE = -std::numeric_limits<double>::infinity();
const int64_t NO_PATH = -1, NO_MEMORY = std::numeric_limits<int64_t>::min();

struct Into { int32_t src; float score; };  // an arc, without its target

struct Graph {
  int32_t end;                  // the final state, the largest
  std::vector<int32_t> first;   // where the arcs into each state begin
  std::vector<Into> into;       // sorted by target, then by source
  std::vector<int32_t> column;  // of the scores, of each state from 1 to end - 1
};

// States that may be on a path are in [low[t], high[t]) on frame t. What is below can no longer lead to the end in time, nor
// can what it leads to: so that old sums may be left there. What is above has not been reached yet: its sums are NONE.
struct Window { std::vector<int32_t> low, high; };

void load(Graph& g, int64_t arcs, const int32_t* src, const int32_t* dst, const float* score, int64_t states, const int32_t* column) {
  g.end = static_cast<int32_t>(states) + 1;
  g.first.assign(g.end + 2, 0);
  g.into.resize(arcs);
  g.column.assign(column, column + states);
  for (int64_t a = 0; a < arcs; ++a) ++g.first[dst[a] + 1];
  for (int32_t s = 0; s <= g.end; ++s) g.first[s + 1] += g.first[s];
  std::vector<int32_t> next(g.first.begin(), g.first.end());
  for (int64_t a = 0; a < arcs; ++a) {  // in rising order of sources
    const Into in = {src[a], score[a]};
    g.into[next[dst[a]]++] = in;
  }
}

// False when no path is as short as `frames`. A state is left out only where it is too far from the start or from the end.
bool make_window(const Graph& g, int32_t frames, Window& w) {
  const int32_t far = std::numeric_limits<int32_t>::max() / 2;
  std::vector<int32_t> before(g.end + 1, far), after(g.end + 1, far);  // fewest arcs from the start, to the end
  before[0] = after[g.end] = 0;
  for (bool changed = true; changed;) {  // twice, where arcs lead to larger states only
    changed = false;
    for (int32_t d = 1; d <= g.end; ++d) {
      for (int32_t i = g.first[d]; i < g.first[d + 1]; ++i) {
        if (before[g.into[i].src] + 1 < before[d]) before[d] = before[g.into[i].src] + 1, changed = true;
      }
    }
    for (int32_t d = g.end; d >= 1; --d) {
      for (int32_t i = g.first[d]; i < g.first[d + 1]; ++i) {
        if (after[d] + 1 < after[g.into[i].src]) after[g.into[i].src] = after[d] + 1, changed = true;
      }
    }
  }
  if (before[g.end] > frames + 1) return false;
  w.low.assign(frames, g.end);
  w.high.assign(frames, 0);
  for (int32_t s = 1; s < g.end; ++s) {
    const int32_t early = before[s] - 1, late = frames - after[s];
    if (early > late) continue;
    w.high[early] = std::max(w.high[early], s + 1);
    w.low[late] = std::min(w.low[late], s);
  }
  for (int32_t t = 1; t < frames; ++t) w.high[t] = std::max(w.high[t], w.high[t - 1]);
  for (int32_t t = frames - 1; t > 0; --t) w.low[t - 1] = std::min(w.low[t - 1], w.low[t]);
  return true;
}

// The window of the frames from `begin` to `end` becomes that of the ways to `state` on the last of them.
void narrow(const Graph& g, int64_t begin, int64_t end, int32_t state, Window& w) {
  std::vector<bool> seen(g.end + 1, false);
  std::vector<int32_t> layer(1, state), next;
  int32_t lowest = state, highest = state;
  seen[state] = true;
  for (int64_t t = end - 1; t >= begin; --t) {
    next.clear();
    for (size_t k = 0; k < layer.size(); ++k) {
      lowest = std::min(lowest, layer[k]);
      highest = std::max(highest, layer[k]);
      for (int32_t i = g.first[layer[k]]; i < g.first[layer[k] + 1]; ++i) {
        const int32_t src = g.into[i].src;
        if (src && !seen[src]) seen[src] = true, next.push_back(src);
      }
    }
    w.low[t] = std::max(w.low[t], lowest);
    w.high[t] = std::min(w.high[t], highest + 1);
    layer.swap(next);
  }
}

// Sums of a frame for the states in [low, high).
void step(const Graph& g, const double* before, const float* row, int32_t low, int32_t high, double* sum) {
  for (int32_t s = low; s < high; ++s) {
    double best = NONE;
    for (int32_t i = g.first[s]; i < g.first[s + 1]; ++i) best = std::max(best, before[g.into[i].src] + g.into[i].score);
    sum[s] = best + row[g.column[s - 1]];
  }
}

// The same, and into `back`, from state `low` on, the states that the sums come from.
void step_back(const Graph& g, const double* before, const float* row, int32_t low, int32_t high, double* sum, int32_t* back) {
  for (int32_t s = low; s < high; ++s) {
    double best = NONE;
    int32_t from = 0;
    for (int32_t i = g.first[s]; i < g.first[s + 1]; ++i) {
      const double value = before[g.into[i].src] + g.into[i].score;
      from = value > best ? g.into[i].src : from;
      best = value > best ? value : best;
    }
    sum[s] = best + row[g.column[s - 1]];
    back[s - low] = from;
  }
}

struct Search {
  Graph graph;
  Window window;
  const float* scores;
  int64_t frames, columns, block;
  std::vector<double> sum, spare;         // of the last frame and of the one before it
  std::vector<std::vector<double>> kept;  // sums in the window of the frame before each block
  std::vector<int32_t> back;              // ways back of a block's frames
};

// First pass. -1, or the frame that holds NaN or +inf.
int64_t forward(Search& s) {
  s.sum.assign(s.graph.end + 1, NONE);
  s.spare = s.sum;
  s.sum[0] = 0.0;
  for (int64_t t = 0; t < s.frames; ++t) {
    const float* row = s.scores + t * s.columns;
    bool good = true;
    for (int64_t c = 0; c < s.columns; ++c) good &= row[c] <= FLT_MAX;
    if (!good) return t;
    if (t == 0) s.kept.emplace_back(1, 0.0);  // the start
    else if (t % s.block == 0) s.kept.emplace_back(s.sum.begin() + s.window.low[t - 1], s.sum.begin() + s.window.high[t - 1]);
    step(s.graph, s.sum.data(), row, s.window.low[t], s.window.high[t], s.spare.data());
    s.sum.swap(s.spare);
    s.spare[0] = NONE;  // nothing starts later
  }
  return -1;
}

// Second pass over a block: its part of the path, given its last state. Returns the state before the block.
int32_t backward(Search& s, int64_t number, int32_t state, int32_t* path) {
  const int64_t begin = number * s.block, end = std::min(begin + s.block, s.frames);
  const std::vector<double>& kept = s.kept[number];
  s.sum.assign(s.graph.end + 1, NONE);
  s.spare = s.sum;
  std::copy(kept.begin(), kept.end(), s.sum.begin() + (begin ? s.window.low[begin - 1] : 0));
  narrow(s.graph, begin, end, state, s.window);
  size_t room = 0;
  for (int64_t t = begin; t < end; ++t) room += s.window.high[t] - s.window.low[t];
  if (room > s.back.size()) s.back.resize(room);
  int32_t* back = s.back.data();
  for (int64_t t = begin; t < end; back += s.window.high[t] - s.window.low[t], ++t) {
    step_back(s.graph, s.sum.data(), s.scores + t * s.columns, s.window.low[t], s.window.high[t], s.spare.data(), back);
    s.sum.swap(s.spare);
    s.spare[0] = NONE;
  }
  for (int64_t t = end - 1; t >= begin; --t) {
    back -= s.window.high[t] - s.window.low[t];
    path[t] = state - 1;
    state = back[state - s.window.low[t]];
  }
  return state;
}

int64_t run(Search& s, int32_t* path, double* score) {
  s.block = static_cast<int64_t>(std::sqrt(static_cast<double>(s.frames))) + 1;
  const int64_t bad = forward(s);
  if (bad >= 0) return -2 - bad;
  int32_t state = 0;
  *score = NONE;
  for (int32_t i = s.graph.first[s.graph.end]; i < s.graph.first[s.graph.end + 1]; ++i) {
    const double value = s.sum[s.graph.into[i].src] + s.graph.into[i].score;
    if (value > *score) *score = value, state = s.graph.into[i].src;
  }
  if (!state) return NO_PATH;
  for (int64_t number = static_cast<int64_t>(s.kept.size()) - 1; number >= 0; --number) state = backward(s, number, state, path);
  return 0;
}

}  // namespace

extern "C" {

// The HMM state of each frame into `path`, the path's score into `total`. Answers 0; NO_PATH; -2 - t: frame t holds NaN or
// +inf; INT64_MIN: no memory.
int64_t kd_viterbi(int64_t arcs, const int32_t* src, const int32_t* dst, const float* score, int64_t states, const int32_t* column,
                   const float* scores, int64_t frames, int64_t columns, int32_t* path, double* total) {
  try {
    Search s;
    load(s.graph, arcs, src, dst, score, states, column);
    if (!make_window(s.graph, static_cast<int32_t>(frames), s.window)) return NO_PATH;
    s.scores = scores;
    s.frames = frames;
    s.columns = columns;
    return run(s, path, total);
  } catch (const std::bad_alloc&) {
    return NO_MEMORY;
  }
}

}  // extern "C"

// Beam search of a decoding graph without epsilon arcs, frame by frame.
//
// In: the graph's arcs sorted by source state (label = pdf + 1, -1 on final arcs; score in nats) and the scores of one
// utterance. Out: the lattice of all arcs within output_beam of the best path, as numbers of the graph's arcs between
// nodes that are numbered by frame. Plain C interface, no dependencies; kdtool/core/native.py compiles and loads it.
//
// Pruning is that of Kaldi's FasterDecoder (same cutoffs, same order) on a graph whose states have their cheapest arcs first: past the
// first arc that is too expensive before its score the others need no look. Of an LF-MMI graph's arcs that leaves two in five. Costs are negative scores relative to the best
// token of their frame, so float32 does not drift; an arc's loss is what it costs more than the best way into its end.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

namespace {

const float INF = std::numeric_limits<float>::infinity();
const float BEAM_DELTA = 0.5f;  // Kaldi's default
const size_t AHEAD = 12;        // tokens or arcs whose memory is asked for in advance
const size_t LINE = 5;          // arcs in a line of the cache
const int64_t INTERVAL = 32;    // frames between prunings of the kept arcs
const int32_t FAR = 1 << 30;    // the map of states is emptied before token numbers overflow

struct Arc { int32_t dst, label; float cost; };
struct Kept { int32_t src, dst, arc; float loss; };  // src, dst: tokens of a frame and of the next, each from 0

struct Search {
  std::vector<int32_t> first;   // where each state's arcs begin
  std::vector<Arc> arcs;        // of a state, the cheapest first; label 0: final arc
  std::vector<int32_t> given;   // number of each arc in the caller's graph
  std::vector<int32_t> number;  // of the token in each state; below `base` in states without one
  int32_t base;
  std::vector<float> row, cost, next_cost, sorted, extra, before;
  std::vector<int32_t> state, next_state, active;
  std::vector<Kept> found, kept;
  std::vector<size_t> ends, sizes;  // kept arcs up to each frame, tokens of each frame
};

// Costs of a frame by label into s.row, the best at 0; false when a score is NaN or +inf.
bool fill_row(Search& s, const float* scores, int64_t pdfs) {
  float top = -FLT_MAX;
  bool good = true;
  for (int64_t p = 0; p < pdfs; ++p) {
    good &= scores[p] <= FLT_MAX;
    top = std::max(top, scores[p]);
  }
  s.row[0] = INF;
  for (int64_t p = 0; p < pdfs; ++p) s.row[p + 1] = top - scores[p];
  return good;
}

// Tokens that cost less than the answer are expanded; `beam` becomes the beam of the next frame.
float get_cutoff(Search& s, size_t max_active, size_t min_active, float* beam) {
  s.sorted = s.cost;
  std::vector<float>::iterator begin = s.sorted.begin(), end = s.sorted.end();
  if (s.sorted.size() > max_active) {
    std::nth_element(begin, begin + max_active, end);
    if (begin[max_active] < *beam) {
      *beam = begin[max_active] + BEAM_DELTA;
      return begin[max_active];
    }
    end = begin + max_active;
  }
  float least = min_active ? INF : 0.0f;
  if (min_active && s.sorted.size() > min_active) {
    if (min_active < static_cast<size_t>(end - begin)) std::nth_element(begin, begin + min_active, end);
    least = begin[min_active];
  }
  if (!(least > *beam)) return *beam;
  *beam = least + BEAM_DELTA;
  return least;
}

// All arcs out of the active tokens that stay below the falling cutoff, to s.found: dst is a state, loss a cost.
size_t expand(Search& s, float beam, size_t best) {
  const float* row = s.row.data();
  float limit = INF;  // the best token's arcs come first: the cutoff is tight from the start
  for (int32_t a = s.first[s.state[best]]; a < s.first[s.state[best] + 1]; ++a) {
    limit = std::min(limit, s.cost[best] + s.arcs[a].cost + row[s.arcs[a].label] + beam);
  }
  size_t m = 0, n = s.active.size();
  for (size_t i = 0; i < n; ++i) {
    __builtin_prefetch(&s.first[s.state[s.active[std::min(i + 2 * AHEAD, n - 1)]]]);
    const Arc* soon = &s.arcs[s.first[s.state[s.active[std::min(i + AHEAD, n - 1)]]]];
    __builtin_prefetch(soon);
    __builtin_prefetch(soon + LINE);
    const int32_t token = s.active[i], from = s.first[s.state[token]], to = s.first[s.state[token] + 1];
    const float cost = s.cost[token];
    if (m + (to - from) > s.found.size()) s.found.resize(2 * m + (to - from) + 1024);
    Kept* out = s.found.data();
    for (int32_t a = from; a < to; ++a) {
      const Arc& arc = s.arcs[a];
      if (cost + arc.cost >= limit) break;  // no score is below 0, and the next arcs cost no less
      const float c = cost + arc.cost + row[arc.label];
      out[m].src = token, out[m].dst = arc.dst, out[m].arc = a, out[m].loss = c;
      m += c < limit;  // without a branch: it could not be foreseen
      limit = c + beam < limit ? c + beam : limit;
    }
  }
  return m;
}

// Tokens of the next frame out of the found arcs, which get the numbers of their tokens.
void make_tokens(Search& s, size_t found) {
  if (s.base > FAR) {
    std::fill(s.number.begin(), s.number.end(), -1);
    s.base = 0;
  }
  s.next_state.clear();
  s.next_cost.clear();
  for (size_t i = 0; i < found; ++i) {
    __builtin_prefetch(&s.number[s.found[std::min(i + 2 * AHEAD, found - 1)].dst], 1);
    Kept& arc = s.found[i];
    int32_t n = s.number[arc.dst] - s.base;
    if (n < 0) {
      n = static_cast<int32_t>(s.next_state.size());
      s.number[arc.dst] = s.base + n;
      s.next_state.push_back(arc.dst);
      s.next_cost.push_back(arc.loss);
    } else if (arc.loss < s.next_cost[n]) {
      s.next_cost[n] = arc.loss;
    }
    arc.dst = n;
  }
  s.base += static_cast<int32_t>(s.next_state.size());
}

// Keep the found arcs that lose no more than the beam against the best way to their end.
void keep_arcs(Search& s, size_t found, float output_beam) {
  size_t m = s.kept.size();
  s.kept.resize(m + found);
  for (size_t i = 0; i < found; ++i) {
    Kept arc = s.found[i];
    arc.loss -= s.next_cost[arc.dst];
    s.kept[m] = arc;
    m += arc.loss <= output_beam;
  }
  s.kept.resize(m);
  s.ends.push_back(m);
  s.sizes.push_back(s.next_cost.size());
}

// Backward from the last frame to `from`: drop arcs whose best completion loses more than the beam. Any token of the
// last frame may still be on the best path, so that nothing is lost when the search goes on.
void prune_kept(Search& s, int64_t from, float output_beam) {
  const int64_t frames = static_cast<int64_t>(s.ends.size()) - 1;
  s.extra.assign(s.sizes[frames], 0.0f);
  for (int64_t t = frames - 1; t >= from; --t) {
    s.before.assign(s.sizes[t], INF);
    for (size_t i = s.ends[t]; i < s.ends[t + 1]; ++i) {
      Kept& arc = s.kept[i];
      const float loss = arc.loss + s.extra[arc.dst];
      if (loss <= output_beam) s.before[arc.src] = std::min(s.before[arc.src], loss);
      else arc.loss = INF;
    }
    s.extra.swap(s.before);
  }
  size_t m = s.ends[from], i = m;
  for (int64_t t = from; t < frames; ++t) {
    for (; i < s.ends[t + 1]; ++i) {
      if (s.kept[i].loss < INF) s.kept[m++] = s.kept[i];
    }
    s.ends[t + 1] = m;
  }
  s.kept.resize(m);
}

// The final arcs as arcs of one more frame, all into token 0.
void finish(Search& s, float output_beam) {
  size_t m = 0;
  float best = INF;
  for (size_t k = 0; k < s.state.size(); ++k) {
    for (int32_t a = s.first[s.state[k]]; a < s.first[s.state[k] + 1]; ++a) {
      if (s.arcs[a].label) continue;
      const Kept arc = {static_cast<int32_t>(k), 0, a, s.cost[k] + s.arcs[a].cost};
      if (m == s.found.size()) s.found.resize(2 * m + 1024);
      s.found[m++] = arc;
      best = std::min(best, arc.loss);
    }
  }
  s.next_cost.assign(1, best);
  keep_arcs(s, m, output_beam);
  prune_kept(s, 0, output_beam);
}

int64_t run(Search& s, const float* scores, int64_t frames, int64_t pdfs, float search_beam, float output_beam,
            size_t max_active, size_t min_active) {
  std::fill(s.number.begin(), s.number.end(), -1);
  s.base = 0;
  s.row.resize(pdfs + 1);
  s.state.assign(1, 0);
  s.cost.assign(1, 0.0f);
  s.kept.clear();
  s.ends.assign(1, 0);
  s.sizes.assign(1, 1);
  for (int64_t t = 0; t < frames && !s.state.empty(); ++t) {
    if (!fill_row(s, scores + t * pdfs, pdfs)) return -1 - t;
    const size_t best = std::min_element(s.cost.begin(), s.cost.end()) - s.cost.begin(), n = s.cost.size();
    const float least = s.cost[best];
    for (size_t k = 0; k < n; ++k) s.cost[k] -= least;
    float beam = search_beam;
    const float cutoff = get_cutoff(s, max_active, min_active, &beam);
    s.active.resize(n);
    size_t m = 0;
    for (size_t k = 0; k < n; ++k) {
      s.active[m] = static_cast<int32_t>(k);
      m += s.cost[k] < cutoff;
    }
    s.active.resize(m);
    const size_t found = expand(s, beam, best);
    make_tokens(s, found);
    keep_arcs(s, found, output_beam);
    s.state.swap(s.next_state);
    s.cost.swap(s.next_cost);
    if ((t + 1) % INTERVAL == 0) prune_kept(s, std::max<int64_t>(0, t + 1 - 2 * INTERVAL), output_beam);
  }
  if (s.state.empty()) {
    s.kept.clear();
  } else {
    finish(s, output_beam);
  }
  return static_cast<int64_t>(s.kept.size());
}

}  // namespace

extern "C" {

void* kd_search_new(int64_t arcs, int64_t states, const int32_t* src, const int32_t* dst, const int32_t* label, const float* score) {
  Search* s = nullptr;
  try {
    s = new Search();
    s->first.assign(states + 1, 0);
    s->arcs.resize(arcs + LINE);
    s->given.resize(arcs);
    s->number.resize(states);
    for (int64_t a = 0; a < arcs; ++a) {
      ++s->first[src[a] + 1];
      s->given[a] = static_cast<int32_t>(a);
    }
    for (int64_t i = 0; i < states; ++i) {
      s->first[i + 1] += s->first[i];
      std::stable_sort(s->given.begin() + s->first[i], s->given.begin() + s->first[i + 1],
                       [score](int32_t a, int32_t b) { return score[a] > score[b]; });
    }
    for (int64_t a = 0; a < arcs; ++a) {
      const int32_t from = s->given[a];
      const Arc arc = {dst[from], std::max(label[from], 0), -score[from]};
      s->arcs[a] = arc;
    }
  } catch (const std::bad_alloc&) {
    delete s;
    return nullptr;
  }
  return s;
}

void kd_search_free(void* search) { delete static_cast<Search*>(search); }

// Number of the lattice's arcs, 0 without a path to the end; -1 - t: frame t holds NaN or +inf; INT64_MIN: no memory.
int64_t kd_search_run(void* search, const float* scores, int64_t frames, int64_t pdfs, float search_beam, float output_beam,
                      int64_t max_active, int64_t min_active) {
  try {
    return run(*static_cast<Search*>(search), scores, frames, pdfs, search_beam, output_beam, max_active, min_active);
  } catch (const std::bad_alloc&) {
    return std::numeric_limits<int64_t>::min();
  }
}

// The lattice of the last run: frame, source and target node, number in the graph of each arc; ordered by frame.
void kd_search_lattice(void* search, int32_t* frame, int32_t* src, int32_t* dst, int32_t* arc) {
  const Search& s = *static_cast<Search*>(search);
  std::vector<int32_t> node(1, 0), next;
  int32_t nodes = 1;
  for (size_t t = 0; t + 1 < s.ends.size(); ++t) {
    next.assign(s.sizes[t + 1], -1);
    for (size_t i = s.ends[t]; i < s.ends[t + 1]; ++i) {
      const Kept& kept = s.kept[i];
      if (next[kept.dst] < 0) next[kept.dst] = nodes++;
      frame[i] = static_cast<int32_t>(t), src[i] = node[kept.src], dst[i] = next[kept.dst], arc[i] = s.given[kept.arc];
    }
    node.swap(next);
  }
}

}  // extern "C"

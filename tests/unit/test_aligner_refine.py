"""Edges of silence from the waveform, and the truth itself: espeak's events against the samples that it made."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kdtool.aligner.posterior import BestPath, Piece
from kdtool.aligner.refine import edges, join_short_silences, step
from local.librispeech.espeak import OWN_RATE, Espeak
from local.librispeech.truth import true_times

SIL, RATE = 1, 16000


def phone(phone_id: int, start: int, length: int, word: int = -1) -> Piece:
    return Piece(phone_id, start, length, 0.9, -1.0, word, (1, 1, length - 2))


def test_a_short_silence_joins_the_phone_after_it_and_a_pause_stays() -> None:
    phones = [phone(SIL, 0, 3), phone(5, 3, 7, 0), phone(SIL, 10, 4), phone(6, 14, 6, 1), phone(SIL, 20, 9), phone(7, 29, 6, 2),
              phone(SIL, 35, 3)]  # fmt: skip
    words = [Piece(0, 3, 7, 0.9, -1.0, 0), Piece(1, 14, 6, 0.9, -1.0, 1), Piece(2, 29, 6, 0.9, -1.0, 2)]
    found = join_short_silences(BestPath(words, phones, 0.0), {SIL}, 6)
    assert [(p.id, p.start, p.length) for p in found.phones] == [(1, 0, 3), (5, 3, 7), (6, 10, 10), (1, 20, 9), (7, 29, 6), (1, 35, 3)]
    assert [(w.start, w.length) for w in found.words] == [(3, 7), (10, 10), (29, 6)]
    assert all(sum(p.states) == p.length for p in found.phones)
    assert join_short_silences(BestPath(words, phones, 0.0), {SIL}, 0).phones == phones


@pytest.mark.parametrize("rising", [True, False])
def test_a_step_is_found_where_it_is_and_only_in_its_direction(rising: bool) -> None:
    values = np.r_[np.full(30, -9.0), np.full(21, 0.0)] + np.random.default_rng(0).normal(0, 0.5, 51)
    values = values if rising else values[::-1]
    assert step(values, rising) == (30 if rising else 21)
    assert step(values, not rising) is None
    assert step(np.zeros(40), rising) is None and step(np.zeros(3), rising) is None


def test_edges_of_silence_move_to_the_sound_and_no_others() -> None:
    """The HMM's usual error: 27 ms into the silence at both sides."""
    rng = np.random.default_rng(1)
    samples = 0.003 * rng.standard_normal(RATE)
    samples[4000:12000] += 0.3 * rng.standard_normal(8000)  # 0.25 to 0.75 s
    phones = [phone(SIL, 0, 22), phone(5, 22, 28, 0), phone(6, 50, 28, 0), phone(SIL, 78, 22)]
    found = edges(phones, {SIL}, samples, RATE, 1.0)
    assert found[0] == 0.0 and found[-1] == 1.0 and found[2] == 0.5
    assert found[1] == pytest.approx(0.25, abs=0.004) and found[3] == pytest.approx(0.75, abs=0.004)
    quiet = 0.003 * rng.standard_normal(RATE)
    assert edges(phones, {SIL}, quiet, RATE, 1.0) == [0.0, 0.22, 0.5, 0.78, 1.0]


def test_espeaks_events_lie_on_the_samples_where_sounds_begin_and_end() -> None:
    """Digital silence before a sound ends on its event, the one after a sound begins on the next: no latency at all."""
    espeak = Espeak()
    text = "two cats kept quiet, the doctor took a picture, six people bought it"
    speech = espeak.say(text, "en-us", pitch=50, rate=160)
    samples = np.frombuffer(speech, np.int16)
    truth = true_times(text, speech, espeak.events, 0.0)
    spans = [(round(s * OWN_RATE), round(t * OWN_RATE)) for _, s, t in truth["phones"]]
    pauses = [(a[1], b[0]) for a, b in itertools.pairwise(spans) if b[0] > a[1]]
    assert len(pauses) == 2
    for begin, end in pauses:
        assert not samples[begin:end].any(), "a pause is silent from its first to its last sample"
        assert np.abs(samples[begin - 110 : begin]).max() > 100 and np.abs(samples[end : end + 110]).max() > 100
    releases = {e.sample for e in espeak.events if e.name.lstrip("',") in ("p", "t", "k")}
    closures = [(s, t) for (name, *_), (s, t) in zip(truth["phones"], spans, strict=True) if name in ("P", "T", "K") and s not in releases]
    assert len(closures) >= 6
    for start, end in closures:
        release = min(r for r in releases if start < r < end)
        assert release - start > 0.01 * OWN_RATE and not samples[start:release].any() and samples[release : release + 110].any()
        assert np.abs(samples[start - 110 : start]).max() > 0


def test_words_and_phones_of_the_truth_agree_and_joined_words_have_none() -> None:
    espeak = Espeak()
    text = "the top of the hill"
    truth = true_times(text, espeak.say(text, "en-us", pitch=50, rate=160), espeak.events, 0.25)
    words, phones = truth["words"], truth["phones"]
    assert [w for w, _, _ in words] == text.split() and words[0][1] == phones[0][1] >= 0.25
    assert words[2][1:] == [None, None], "espeak says 'of the' as one word"
    starts, ends = {p[1] for p in phones}, {p[2] for p in phones}
    assert all(s in starts and e in ends for _, s, e in words if s is not None)
    assert all(a[2] <= b[1] for a, b in itertools.pairwise(phones))
    assert espeak.has_echo("en-us+f2") and not espeak.has_echo("en-us+m1") and not espeak.has_echo("en-us")

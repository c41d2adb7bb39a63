"""Sound in a page.  In: samples.  Out: an audio element that holds them, click attributes that play a part, the script for both.

A click on what has `plays` attributes plays a part of its audio element; on what has `follows`, from the place of the click to the end.
Meanwhile what was clicked has the class "on", and what has the class "now" in the same section moves with the sound; the scrolled box
(class "wide") around it follows.
"""

import base64
import io

import numpy as np

STYLE = """
[data-sound] { cursor: pointer } g[data-sound]:hover rect, g.on rect { stroke-width: 2 } span.on, button.on { outline: 2px solid #c22 }
.now { display: none; stroke: #c22; pointer-events: none } .sounds .now { display: inline } audio { display: block; margin: .3em 0 }
"""
SCRIPT = """
"use strict";
let audio = null, until = Infinity, marked = null;
function halt() {
  if (audio) { audio.pause(); audio.closest("section").classList.remove("sounds"); }
  if (marked) marked.classList.remove("on");
  audio = marked = null;
}
function follow() {
  if (!audio) return;
  if (audio.ended || audio.currentTime >= until) { halt(); return; }
  const line = audio.closest("section").querySelector(".now");
  if (line) {
    const x = audio.currentTime * Number(line.dataset.scale), view = line.closest(".wide");
    line.setAttribute("transform", "translate(" + x + " 0)");
    if (x < view.scrollLeft || x > view.scrollLeft + view.clientWidth) view.scrollLeft = x - view.clientWidth / 4;
  }
  requestAnimationFrame(follow);
}
document.addEventListener("click", event => {
  const hit = event.target.closest("[data-sound]");
  if (!hit) return;
  halt();
  audio = document.getElementById(hit.dataset.sound);
  marked = hit;
  let from = Number(hit.dataset.from);
  until = Number(hit.dataset.to);
  if (hit.dataset.follow) {
    const box = hit.getBoundingClientRect();
    from += (until - from) * (event.clientX - box.left) / box.width;
  }
  if (from >= until - 0.001) from = Math.max(0, until - 0.001);
  audio.currentTime = from;
  audio.play();
  hit.classList.add("on");
  audio.closest("section").classList.add("sounds");
  requestAnimationFrame(follow);
});
"""


def element(name: str, samples: np.ndarray, rate: int) -> str:
    """An audio element with the id `name` that holds the samples (floats from -1 to 1) as FLAC, 16 bit, which all browsers play."""
    import soundfile

    data = io.BytesIO()
    soundfile.write(data, np.clip(samples, -1.0, 1.0), rate, format="FLAC", subtype="PCM_16")
    return f'<audio id="{name}" controls preload="auto" src="data:audio/flac;base64,{base64.b64encode(data.getvalue()).decode()}"></audio>'


def plays(name: str, start: float, end: float) -> str:
    """Attributes of an element: a click plays the audio element `name` from `start` to `end`, seconds."""
    return f' data-sound="{name}" data-from="{start:.4f}" data-to="{end:.4f}"'


def follows(name: str, end: float) -> str:
    """Attributes of an element as wide as the sound: a click plays it from there to its `end`, seconds."""
    return f'{plays(name, 0.0, end)} data-follow="1"'


def cursor(height: int, scale: float) -> str:
    """A vertical line of an SVG that moves with the sound, `scale` pixels per second."""
    return f'<path class="now" data-scale="{scale:g}" d="M0 0V{height}"/>'

"use strict";
// Pictures by uPlot. Lines differ in colour and in dashes, so that colour is not needed.

const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d31", "#7f7f7f"];
const dashes = [[], [6, 4], [2, 3], [10, 4, 2, 4]];

function lineOf(page, number) {
  return {
    label: page.systems[number].name,
    stroke: colours[number % colours.length],
    width: 2,
    dash: dashes[(number + Math.floor(number / colours.length)) % dashes.length],
    spanGaps: true,
    points: { show: true, size: 7 },
  };
}

// Canvas knows no variables of CSS, so colours are read where they have become numbers.
function colourOf(name) {
  const probe = element("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function axis(label, more = {}) {
  return {
    label, labelSize: 20, size: 52, font: "12px system-ui", labelFont: "12px system-ui",
    stroke: () => colourOf("--muted"),
    grid: { stroke: () => colourOf("--line"), width: 1 },
    ticks: { stroke: () => colourOf("--line"), width: 1 },
    ...more,
  };
}

const flat = { size: 30 }; // of the axis below, whose numbers lie side by side

// The x values of all series together, and for each series its y at each of them.
function joined(series) {
  const known = series.map((points) => points.length ? points : [[0, null]]);
  return uPlot.join(known.map((points) => {
    const rising = [...points].sort((a, b) => a[0] - b[0]);
    return [rising.map(([x]) => x), rising.map(([, y]) => y)];
  }));
}

// The points that no other one beats in both numbers.
function paretoFront(points) {
  return points.filter(([x, y]) => !points.some(([a, b]) => a >= x && b >= y && (a > x || b > y)));
}

// Of points over one number, such as the beams of a system over its size, the highest.
function highest(points) {
  const found = new Map();
  for (const [x, y] of points) found.set(x, Math.max(y, found.get(x) ?? y));
  return [...found];
}

class Pictures {
  constructor(page, place) {
    this.page = page;
    this.place = place;
    this.drawn = [];
    this.drawAll();
    new ResizeObserver(() => this.fit()).observe(place);
  }

  figure(title, note) {
    const made = element("figure"), caption = element("figcaption", "", title), body = element("div");
    caption.append(element("small", "", note));
    made.append(caption, body);
    this.place.append(made);
    return body;
  }

  draw(place, data, series, scales, axes) {
    place.replaceChildren();
    const size = { width: Math.max(260, place.clientWidth), height: 280 };
    // Values are shown where the pointer is; without one there is nothing to show.
    const value = (_, v) => v == null ? "" : v.toLocaleString("en", { maximumFractionDigits: 2 });
    const all = [{ label: axes[0].label }, ...series].map((one) => ({ value, ...one }));
    const plot = new uPlot({ ...size, series: all, scales, axes }, data, place);
    this.drawn = this.drawn.filter(([known]) => known !== place);
    this.drawn.push([place, plot]);
  }

  fit() {
    for (const [place, plot] of this.drawn) {
      const width = Math.max(260, place.clientWidth);
      if (width !== plot.width) plot.setSize({ width, height: plot.height });
    }
  }

  restyle() {
    for (const [, plot] of this.drawn) plot.redraw(false, true);
  }

  drawAll() {
    const page = this.page, lines = page.systems.map((_, n) => lineOf(page, n));
    const curves = page.systems.map((system) => system.curve);
    if (curves.some((curve) => curve.length)) {
      const kept = curves.flatMap((curve, n) => curve.length ? [n] : []);
      this.draw(this.figure("Training", "BLEU of the validation set after each validation, of the first seed"),
        joined(kept.map((n) => curves[n])), kept.map((n) => lines[n]), { x: { time: false } },
        [axis("validation", { ...flat, incrs: [1, 2, 5, 10, 20, 50, 100] }), axis("BLEU")]);
    }
    this.fronts(lines);
    this.lengths = this.figure("BLEU by length", "mean of sentence BLEU, over fifths of the test set by the length of the source");
    this.gains = this.figure("Gains and losses", "");
  }

  // BLEU against what it costs: time, and parameters.
  fronts(lines) {
    const systems = this.page.systems;
    const points = (x) => systems.map((system) => Object.values(system.decodings).map((d) => [x(system, d), d.bleu]).filter(([cost]) => cost));
    const speed = points((_, d) => d.speed), size = points((system) => system.parameters / 1e6);
    this.front("Quality and speed", "of each system, joined over its beams; further right is faster", "sentences per second",
      speed, paretoFront(speed.flat()), lines);
    const smallest = paretoFront(size.flat().map(([x, y]) => [-x, y])).map(([x, y]) => [-x, y]);
    this.front("Quality and size", "the best beam of each system; further left is smaller", "million parameters", size, smallest, lines);
  }

  front(title, note, label, series, best, lines) {
    if (!series.some((points) => points.length)) return;
    const front = { label: "Pareto front", stroke: () => colourOf("--muted"), width: 1, dash: [2, 2], spanGaps: true, points: { show: false } };
    const values = (_, ticks) => ticks.map((v) => v === null ? "" : v.toLocaleString("en"));
    this.draw(this.figure(title, note), joined([...series, best].map(highest)), [...lines, front], { x: { time: false, distr: 3 } },
      [axis(label, { ...flat, values }), axis("BLEU")]);
  }

  // What depends on the choices beneath: scores of each system, and its gains over another.
  update(view) {
    const lengths = view.lengths, order = [...lengths.keys()].sort((a, b) => lengths[a] - lengths[b]);
    const parts = Math.min(5, order.length), groups = [];
    for (let n = 0; n < parts; n++) groups.push(order.slice(Math.floor(n * order.length / parts), Math.floor((n + 1) * order.length / parts)));
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const series = this.page.systems.map((_, system) => {
      const scores = view.scores(system);
      return scores ? groups.map((group) => [mean(group.map((i) => lengths[i])), mean(group.map((i) => scores[i]))]) : [];
    });
    this.draw(this.lengths, joined(series), series.map((_, n) => lineOf(this.page, n)), { x: { time: false } },
      [axis(view.page.spaced ? "words of the source" : "characters of the source", flat), axis("sentence BLEU")]);
    const step = 10, counts = new Array(21).fill(0);
    for (const gain of view.gains) counts[Math.round(gain / step) + 10]++;
    this.gains.parentElement.querySelector("small").textContent =
      `sentences by the sentence BLEU of ${view.systemName} minus that of ${view.otherName}`;
    this.draw(this.gains, [counts.map((_, n) => (n - 10) * step), counts],
      [{ label: "sentences", stroke: colours[0], fill: `${colours[0]}66`, paths: uPlot.paths.bars({ size: [0.9] }), points: { show: false } }],
      { x: { time: false, range: [-105, 105] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.05)] } },
      [axis("gain in BLEU, rounded to tens", flat), axis("sentences")]);
  }
}

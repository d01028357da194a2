"use strict";
// The browser of test sentences: choices, a list of which only the visible part exists, one detail.

const around = 6; // sentences above and below the visible ones that exist, too

class View {
  constructor(page) {
    this.page = page;
    this.outputs = new Map(page.outputs.map((o) => [`${o.system}/${o.seed}/${o.beam}`, o]));
    this.seeds = [...new Set(page.outputs.map((o) => o.seed))];
    this.lengths = page.sentences.source.map((text) => unitsOf(text, page.spaced).length);
    this.beam = page.beams[0];
    this.seed = this.seeds[0];
    this.basis = "reference";
    this.order = "gain";
    this.query = "";
    this.from = 0;
    this.to = Infinity;
    [this.system, this.other] = firstPair(page);
    this.arrange();
  }

  get systemName() { return this.page.systems[this.system].name; }
  get otherName() { return this.page.systems[this.other].name; }

  // What a system wrote; with its own first seed where it has not the chosen one.
  output(system) {
    return this.outputs.get(`${system}/${this.seed}/${this.beam}`)
      ?? this.page.outputs.find((o) => o.system === system && o.beam === this.beam);
  }

  // The numbers of a system's texts; null if it has none with this beam.
  numbers(system) {
    return this.output(system)?.texts ?? null;
  }

  scores(system) {
    const numbers = this.numbers(system);
    return numbers && numbers.map((number, i) => this.page.sentences.bleu[i][number]);
  }

  text(system, i) {
    const numbers = this.numbers(system);
    return numbers ? this.page.sentences.texts[i][numbers[i]] : null;
  }

  // Scores, gains, and the sentences that are shown in their order.
  arrange() {
    const zeros = () => new Array(this.lengths.length).fill(0);
    this.own = this.scores(this.system) ?? zeros();
    this.others = this.scores(this.other) ?? zeros();
    this.gains = this.own.map((score, i) => score - this.others[i]);
    const rising = (values) => (a, b) => values[a] - values[b] || a - b;
    const falling = (values) => (a, b) => values[b] - values[a] || a - b;
    const orders = {
      gain: falling(this.gains), loss: rising(this.gains), best: falling(this.own),
      worst: rising(this.own), long: falling(this.lengths), short: rising(this.lengths),
      text: (a, b) => a - b,
    };
    const query = this.query.trim().toLowerCase();
    this.shown = [...this.lengths.keys()].filter((i) =>
      this.lengths[i] >= this.from && this.lengths[i] <= this.to && (!query || this.searched(i).includes(query)));
    this.shown.sort(orders[this.order]);
  }

  searched(i) {
    this.haystacks ??= [];
    const { source, reference, texts } = this.page.sentences;
    return this.haystacks[i] ??= [source[i], reference[i], ...texts[i]].join("\n").toLowerCase();
  }
}

// The system that differs most from what it is compared with.
function firstPair(page) {
  let best = [page.systems.length - 1, 0], most = -Infinity;
  page.systems.forEach((system, n) => {
    for (const { difference } of Object.values(system.decodings)) {
      if (difference && system.compared_to !== null && difference.bleu > most) {
        most = difference.bleu;
        best = [n, system.compared_to];
      }
    }
  });
  return best;
}

class SentenceList {
  constructor(view, place, choose) {
    this.view = view;
    this.place = place;
    this.space = place.firstElementChild;
    this.choose = choose;
    this.items = new Map(); // those that exist, by their rank
    this.selected = 0; // its rank among the sentences that are shown
    this.height = parseFloat(getComputedStyle(document.documentElement).fontSize) * 4.25; // --row
    place.addEventListener("scroll", () => this.later());
    place.addEventListener("click", (event) => {
      const item = event.target.closest(".item");
      if (!item) return;
      this.select(Number(item.dataset.rank));
      // On a narrow screen the sentence stands below the list.
      if (matchMedia("(max-width: 50rem)").matches) document.getElementById("detail").scrollIntoView();
    });
    new ResizeObserver(() => this.later()).observe(place);
  }

  later() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  draw() {
    const { shown } = this.view;
    const first = Math.max(0, Math.floor(this.place.scrollTop / this.height) - around);
    const end = Math.min(shown.length, first + Math.ceil(this.place.clientHeight / this.height) + 2 * around);
    for (const [rank, item] of this.items) {
      if (rank >= first && rank < end) continue;
      item.remove();
      this.items.delete(rank);
    }
    for (let rank = first; rank < end; rank++) {
      if (this.items.has(rank)) continue;
      const item = this.item(rank);
      this.items.set(rank, item);
      this.place.append(item);
    }
    if (this.selected >= first && this.selected < end) this.place.setAttribute("aria-activedescendant", `item-${this.selected}`);
    else this.place.removeAttribute("aria-activedescendant");
  }

  item(rank) {
    const { view } = this, i = view.shown[rank];
    const item = element("div", "item");
    item.id = `item-${rank}`;
    item.dataset.rank = rank;
    item.style.transform = `translateY(${rank * this.height}px)`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", rank === this.selected);
    item.setAttribute("aria-posinset", rank + 1);
    item.setAttribute("aria-setsize", view.shown.length);
    const source = element("span", "source", view.page.sentences.source[i]);
    const output = element("span", "output", view.text(view.system, i) ?? dash);
    source.dir = output.dir = "auto";
    item.append(
      element("span", "number", i + 1), source,
      element("span", `change ${direction(view.gains[i])}`, signed(view.gains[i], 1)),
      output, element("span", "change number", fixed(view.own[i], 1)),
    );
    return item;
  }

  // Begins anew, after other sentences, orders or systems were chosen.
  reset(rank) {
    for (const item of this.items.values()) item.remove();
    this.items.clear();
    this.space.style.height = `${this.view.shown.length * this.height}px`;
    this.place.scrollTop = 0;
    this.select(rank);
  }

  select(rank) {
    const { shown } = this.view;
    this.items.get(this.selected)?.setAttribute("aria-selected", false);
    this.selected = Math.max(0, Math.min(shown.length - 1, rank));
    const top = this.selected * this.height, bottom = top + this.height;
    if (top < this.place.scrollTop) this.place.scrollTop = top;
    else if (bottom > this.place.scrollTop + this.place.clientHeight) this.place.scrollTop = bottom - this.place.clientHeight;
    this.draw();
    this.items.get(this.selected)?.setAttribute("aria-selected", true);
    this.choose(shown.length ? shown[this.selected] : null);
  }

  move(key) {
    const part = Math.max(1, Math.floor(this.place.clientHeight / this.height) - 1);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -part, PageDown: part, Home: -Infinity, End: Infinity };
    if (!(key in steps)) return false;
    this.select(this.selected + steps[key]);
    return true;
  }
}

class Detail {
  constructor(view, place) {
    this.view = view;
    this.place = place;
    place.addEventListener("pointerover", (event) => {
      const unit = event.target.closest(".unit");
      if (unit) this.look(unit.parentElement, Number(unit.dataset.n));
      else this.lookAway();
    });
    place.addEventListener("pointerleave", () => this.lookAway());
    place.addEventListener("focusout", () => this.lookAway());
    place.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const units = event.target.matches(".text") ? event.target.querySelectorAll(".unit") : [];
      if (!step || !units.length) return;
      event.preventDefault();
      const now = [...units].findIndex((unit) => unit.classList.contains("looking"));
      this.look(event.target, Math.max(0, Math.min(units.length - 1, now + step)));
    });
  }

  show(i) {
    const focused = this.place.contains(document.activeElement) ? document.activeElement.dataset.system : undefined;
    this.sentence = i;
    this.place.replaceChildren();
    if (i === null) {
      this.place.append(element("p", "note", "No sentence fits these choices."));
      return;
    }
    const { page } = this.view, { source, reference } = page.sentences;
    this.source = this.paragraph(source[i]);
    this.source.dataset.role = "source";
    this.add(`Source, sentence ${i + 1}`, `${this.view.lengths[i]} ${page.spaced ? "words" : "characters"}`, this.source);
    const chosen = this.view.text(this.view.system, i), units = unitsOf(reference[i], page.spaced);
    const missing = chosen === null || this.view.basis !== "reference" ? [] : notShared(units, unitsOf(chosen, page.spaced));
    const told = missing.includes(true) ? `underlined: what ${this.view.systemName} has not` : "";
    this.add("Reference", told, this.paragraph(reference[i], missing, "missing"));
    page.systems.forEach((system, n) => this.addOutput(system, n, i));
    page.lists.forEach((lists, run) => lists && this.addList(page.runs[run], lists[i]));
    if (focused !== undefined) this.place.querySelector(`[data-system="${focused}"]`)?.focus();
  }

  paragraph(text, marked, mark) {
    return paragraphOf(unitsOf(text, this.view.page.spaced), this.view.page.spaced, marked, mark);
  }

  add(title, note, ...parts) {
    const head = element("h3", "", title);
    if (note) head.append(element("small", "", note));
    this.place.append(head, ...parts);
    return head;
  }

  addOutput(system, n, i) {
    const { view } = this, { page } = view, text = view.text(n, i);
    if (text === null) return;
    const number = view.numbers(n)[i], units = unitsOf(text, page.spaced);
    const basis = view.basis === "reference" ? page.sentences.reference[i] : view.basis === "other" ? view.text(view.other, i) : null;
    const body = this.paragraph(text, basis === null ? [] : notShared(units, unitsOf(basis, page.spaced)));
    body.dataset.system = n;
    const weights = view.output(n).attention ? page.attention[n]?.[i]?.[number] : undefined;
    if (weights) {
      body.attention = weights;
      body.tabIndex = 0;
      body.setAttribute("aria-label", `${system.name}: ${text}`);
    }
    const score = page.sentences.bleu[i][number], head = this.add(system.name, `BLEU ${fixed(score, 1)}`, body);
    if (n !== view.other) {
      const gain = score - view.others[i];
      head.append(element("small", direction(gain), `${signed(gain, 1)} to ${view.otherName}`));
    }
  }

  addList(run, list) {
    const box = element("details"), body = element("ol");
    const several = this.view.page.runs.length > 1 ? ` of ${run.name}` : "";
    box.open = this.listsOpen ?? true;
    box.addEventListener("toggle", () => { this.listsOpen = box.open; });
    box.append(element("summary", "", `What the teacher${several} would have taught`));
    box.append(element("p", "note", `The teacher's list: rank, log-probability, ${run.similarity} to the reference. Seq-KD takes the best of a beam of ${run.kd_beam}, Seq-Inter the hypothesis nearest the reference${list.seq_inter === null ? "" : `, of a beam of ${run.inter_beam}`}.`));
    const known = list.hypotheses.map(([, text]) => text);
    const rows = known.includes(list.seq_kd) ? list.hypotheses : [[null, list.seq_kd, null, null], ...list.hypotheses];
    for (const [rank, text, score, similarity] of rows) {
      const row = element("li"), cell = element("span", "", text);
      cell.dir = "auto";
      if (text === list.seq_kd) cell.append(element("span", "tag", "Seq-KD"));
      if (text === list.seq_inter) cell.append(element("span", "tag", "Seq-Inter"));
      row.append(element("span", "value", rank ?? dash), element("span", "value", fixed(score, 2)), element("span", "value", fixed(similarity, 3)), cell);
      body.append(row);
    }
    box.append(body);
    this.place.append(box);
  }

  lookAway() {
    for (const unit of this.place.querySelectorAll(".looking, .looked")) {
      unit.classList.remove("looking", "looked");
      unit.style.removeProperty("--weight");
    }
  }

  // Shows where a model looked for a word of an output, or which words a source word was looked at for.
  look(paragraph, n) {
    this.lookAway();
    const ofSource = paragraph === this.source, sources = this.source.querySelectorAll(".unit");
    if (!ofSource && !paragraph.attention) return;
    paragraph.querySelectorAll(".unit")[n].classList.add("looking");
    if (!ofSource) {
      sources.forEach((unit, s) => weigh(unit, paragraph.attention[n * sources.length + s]));
      return;
    }
    for (const output of this.place.querySelectorAll(".text[data-system]")) {
      if (!output.attention) continue;
      output.querySelectorAll(".unit").forEach((unit, t) => weigh(unit, output.attention[t * sources.length + n]));
    }
  }
}

function weigh(unit, digit) {
  const weight = parseInt(digit, 36) / 35;
  if (!(weight > 0)) return;
  unit.classList.add("looked");
  unit.style.setProperty("--weight", weight);
  unit.title = `${Math.round(100 * weight)} %`;
}

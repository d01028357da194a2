"use strict";
// Starts the page: reads the content, connects choices and keys.

function start() {
  const byId = (id) => document.getElementById(id);
  const page = JSON.parse(byId("content").textContent);
  const view = new View(page);
  byId("title").textContent = page.title;
  showTables(page, byId("tables"));
  const pictures = new Pictures(page, byId("charts"));
  const detail = new Detail(view, byId("detail"));
  const list = new SentenceList(view, byId("list"), (i) => detail.show(i));

  const update = (i = null) => {
    view.arrange();
    const all = view.lengths.length, rest = page.total - all;
    byId("count").textContent = `${view.shown.length.toLocaleString("en")} of ${all.toLocaleString("en")} sentences`
      + (rest > 0 ? `; the test set has ${rest.toLocaleString("en")} more, which are not in this page` : "");
    list.reset(i === null ? 0 : Math.max(0, view.shown.indexOf(i)));
  };

  const systems = page.systems.map((system, n) => [n, system.name]);
  const choices = {
    system: [systems, Number], other: [systems, Number], beam: [page.beams.map((k) => [k, k === 1 ? "1 (greedy)" : String(k)]), Number],
    seed: [view.seeds.map((seed) => [seed, String(seed)]), Number], order: [null, String], basis: [null, String],
  };
  for (const [name, [values, read]] of Object.entries(choices)) {
    const select = byId(name);
    if (values) options(select, values);
    select.value = view[name];
    select.addEventListener("change", () => {
      view[name] = read(select.value);
      update(detail.sentence);
      if (["system", "other", "beam", "seed"].includes(name)) pictures.update(view);
    });
  }
  byId("seed-label").hidden = view.seeds.length < 2;

  const search = byId("search");
  search.addEventListener("input", () => { view.query = search.value; update(); });
  for (const [id, otherwise] of [["from", 0], ["to", Infinity]]) {
    byId(id).addEventListener("input", (event) => {
      view[id] = event.target.value === "" ? otherwise : Number(event.target.value);
      update();
    });
  }
  byId("controls").addEventListener("submit", (event) => { event.preventDefault(); list.place.focus(); });

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = view.query = "";
      update(detail.sentence);
      list.place.focus();
    } else if (!typing && (event.target === list.place || ["ArrowUp", "ArrowDown"].includes(event.key) && inBrowser(event.target))) {
      if (list.move(event.key)) event.preventDefault();
    }
  });
  const inBrowser = (target) => byId("browser").contains(target);

  const theme = byId("theme"), themes = ["system", "light", "dark"];
  const setTheme = (name) => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
    pictures.restyle();
  };
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(remembered.get()) + 1) % themes.length];
    remembered.set(next);
    setTheme(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => pictures.restyle());

  update();
  pictures.update(view);
  setTheme(remembered.get());
}

// A browser may refuse to store anything for a file; then the choice lasts as long as the page.
const remembered = {
  now: "system",
  get() {
    try { this.now = localStorage.getItem("seqkd-theme") ?? this.now; } catch { /* refused */ }
    return ["light", "dark"].includes(this.now) ? this.now : "system";
  },
  set(name) {
    this.now = name;
    try { localStorage.setItem("seqkd-theme", name); } catch { /* refused */ }
  },
};

start();

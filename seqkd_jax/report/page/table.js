"use strict";
// The table, one for each run, with what report/table.py prints and the significance in words.

const stars = (p) => p < 0.01 ? "**" : p < 0.05 ? "*" : "";
const signs = (seeds) => seeds.map(([bleu]) => bleu > 0 ? "+" : bleu < 0 ? "−" : "0").join("");

// Columns: [heading, value to sort by, what is shown].
function columnsOf(page, systems) {
  const several = (system) => page.runs[system.run].seeds.length > 1;
  const columns = [["parameters", (s) => s.parameters, (s) => `${(s.parameters / 1e6).toFixed(2)}m`]];
  const beams = Object.keys(systems[0].decodings);
  for (const beam of beams) {
    const of = (s) => s.decodings[beam];
    columns.push(
      [`BLEU K=${beam}`, (s) => of(s).bleu, (s) => fixed(of(s).bleu, 2) + (of(s).spread === null ? "" : ` ±${fixed(of(s).spread, 2)}`)],
      ["difference", (s) => of(s).difference ? of(s).difference.bleu : null, (s) => differenceCell(page, s, of(s), several(s))],
      ["chrF", (s) => of(s).chrf, (s) => fixed(of(s).chrf, 1)],
    );
    for (const name of Object.keys(of(systems[0]).metrics)) {
      columns.push([name, (s) => of(s).metrics[name], (s) => fixed(of(s).metrics[name], 3)]);
    }
  }
  columns.push(
    ["PPL", (s) => s.perplexity, (s) => fixed(s.perplexity, 2)],
    ["p(t=ŷ)", (s) => s.mode_mass, (s) => s.mode_mass === null ? dash : `${(100 * s.mode_mass).toFixed(1)}%`],
  );
  for (const beam of beams) {
    columns.push([`sentences/s K=${beam}`, (s) => s.decodings[beam].speed, (s) => grouped(s.decodings[beam].speed)]);
  }
  return columns;
}

function differenceCell(page, system, decoding, several) {
  const difference = decoding.difference;
  if (!difference) return "";
  const other = system.compared_to === null ? "" : page.systems[system.compared_to].name;
  const cell = element("span", direction(difference.bleu), signed(difference.bleu) + stars(difference.p));
  if (several) cell.append(" ", element("span", "", signs(difference.seeds)));
  const each = difference.seeds.map(([bleu, p], n) => `seed ${page.runs[system.run].seeds[n]}: ${signed(bleu)}, p = ${p.toFixed(3)}`);
  cell.title = [`to ${other}: p = ${difference.p.toFixed(3)}`, ...each].join("\n");
  return cell;
}

function tableOf(page, number) {
  const run = page.runs[number];
  const systems = page.systems.filter((s) => s.run === number);
  const columns = columnsOf(page, systems);
  const table = element("table"), body = element("tbody"), head = element("tr");
  let sorted = null, falling = true;
  const fill = () => {
    const order = [...systems];
    if (sorted) order.sort((a, b) => (falling ? -1 : 1) * ((sorted[1](a) ?? -Infinity) - (sorted[1](b) ?? -Infinity)));
    body.replaceChildren(...order.map((system) => {
      const row = element("tr"), name = element("th", "", system.row);
      name.scope = "row";
      row.append(name, ...columns.map(([, , show]) => {
        const cell = element("td");
        cell.append(show(system));
        return cell;
      }));
      return row;
    }));
    if (run.truth) body.append(truthRow(run.truth, columns));
  };
  head.append(element("td"));
  for (const column of columns) {
    const cell = element("th"), button = element("button", "", column[0]);
    cell.scope = "col";
    button.type = "button";
    button.addEventListener("click", () => {
      falling = sorted === column ? !falling : true;
      sorted = column;
      for (const other of head.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
      fill();
    });
    cell.append(button);
    head.append(cell);
  }
  const top = element("thead");
  top.append(head);
  table.append(top, body);
  fill();
  return table;
}

function truthRow(truth, columns) {
  const row = element("tr"), name = element("th", "", "the truth's mode");
  const known = { PPL: fixed(truth.perplexity, 2), "p(t=ŷ)": `${(100 * truth.mode_mass).toFixed(1)}%` };
  known[columns.find(([title]) => title.startsWith("BLEU"))[0]] = fixed(truth.bleu, 2);
  row.append(name, ...columns.map(([title]) => element("td", "", known[title] ?? "")));
  return row;
}

function showTables(page, place) {
  page.runs.forEach((run, number) => {
    if (page.runs.length > 1) place.append(element("h3", "", run.name));
    const scroll = element("div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Table of ${run.name}`);
    scroll.append(tableOf(page, number));
    place.append(scroll);
    const over = run.seeds.length > 1 ? ` over sentences and seeds; means of ${run.seeds.length} seeds, ± standard deviation, and the sign with each seed` : "";
    const others = [...new Set(page.systems.filter((s) => s.run === number && s.compared_to !== null).map((s) => page.systems[s.compared_to].row))];
    const notes = [run.corpus];
    if (others.length) notes.push(`difference: of BLEU, to ${others.join(" or ")}; paired bootstrap${over}; * p < .05, ** p < .01`);
    for (const note of [...notes, ...run.about, ...run.notes]) place.append(element("p", "note", note));
  });
}

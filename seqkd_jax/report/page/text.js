"use strict";
// Elements, numbers and words. Text of people reaches the page through textContent alone.

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

function options(select, values) {
  select.replaceChildren(...values.map(([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  }));
}

const dash = "–";
const fixed = (value, places) => value === null || value === undefined ? dash : value.toFixed(places);
const grouped = (value) => value === null || value === undefined ? dash : Math.round(value).toLocaleString("en");
const signed = (value, places = 2) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(places);
const direction = (value) => value > 0 ? "gain" : value < 0 ? "loss" : "";

// The rule of units.py: words are separated by ASCII whitespace; without spaces, characters.
function unitsOf(text, spaced) {
  const words = text.split(/[ \t\n\r\v\f]+/).filter(Boolean);
  return spaced ? words : [...words.join("")];
}

// Which units of one text are not in a longest common subsequence with another.
function notShared(units, others) {
  const width = others.length + 1;
  const lengths = new Uint16Array((units.length + 1) * width);
  for (let i = units.length - 1; i >= 0; i--) {
    for (let j = others.length - 1; j >= 0; j--) {
      lengths[i * width + j] = units[i] === others[j]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const marked = new Array(units.length).fill(true);
  for (let i = 0, j = 0; i < units.length && j < others.length;) {
    if (units[i] === others[j]) { marked[i] = false; i++; j++; }
    else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return marked;
}

// A paragraph with an element for each unit; marked ones are of a class.
function paragraphOf(units, spaced, marked = [], mark = "marked") {
  const made = element("p", "text");
  made.dir = "auto";
  units.forEach((unit, n) => {
    if (n && spaced) made.append(" ");
    const part = element("span", marked[n] ? `unit ${mark}` : "unit", unit);
    part.dataset.n = n;
    made.append(part);
  });
  if (!units.length) made.append(element("em", "note", "(empty)"));
  return made;
}

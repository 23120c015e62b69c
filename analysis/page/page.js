"use strict";
// Without this file all tables stand as they are: here they learn to be sorted and filtered.

const words = new Intl.Collator(document.documentElement.lang, { numeric: true });

function valueOf(row, place) {
  const cell = row.cells[place];
  return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
}

function compared(a, b) {
  const lacking = (x) => x === "–" || x === "" || Number.isNaN(x);
  if (lacking(a) || lacking(b)) return null;
  return typeof a === "number" && typeof b === "number" ? a - b : words.compare(String(a), String(b));
}

function sort(table, place, button) {
  const head = button.closest("th");
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [row, valueOf(row, place)]);
  rows.sort(([, a], [, b]) => {
    const order = compared(a, b);
    if (order !== null) return down ? -order : order;
    return (a === "–" || a === "") - (b === "–" || b === ""); // what is lacking stands last, either way
  });
  body.append(...rows.map(([row]) => row));
}

for (const table of document.querySelectorAll("table[data-sorts]")) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(table, place, button));
    head.replaceChildren(button);
  });
}

for (const box of document.querySelectorAll(".filter")) {
  const table = document.getElementById(box.dataset.filters);
  const input = box.querySelector("input");
  const count = box.querySelector("output");
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !wanted.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = wanted.length ? `${shown} of ${rows.length}` : "";
  });
  box.hidden = false;
}

"use strict";
// Tables stay readable without this script: it adds sorting, filters and copying.
const said = document.getElementById("said");
const number = (text) => {
  const found = /^[+\-−]?\d+(\.\d+)?(?!\w)/.exec(text);
  return found ? parseFloat(found[0].replace("−", "-")) : NaN;
};
const key = (cell) => cell.dataset.value ?? cell.textContent.trim();
const isMissing = (text) => ["–", "", "none", "nan"].includes(text);

function sorted(rows, column, sign) {
  const keys = new Map(rows.map((row) => [row, key(row.cells[column])]));
  const there = rows.filter((row) => !isMissing(keys.get(row)));
  const isNumeric = there.every((row) => !Number.isNaN(number(keys.get(row))));
  const difference = (a, b) => (isNumeric ? number(a) - number(b) : a.localeCompare(b, undefined, { numeric: true }));
  there.sort((a, b) => sign * difference(keys.get(a), keys.get(b)));
  return [...there, ...rows.filter((row) => isMissing(keys.get(row)))]; // what is missing goes last either way
}

function sort(header, body, original) {
  const next = { none: "ascending", ascending: "descending", descending: "none" }[header.getAttribute("aria-sort")];
  for (const other of header.parentNode.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", next);
  const sign = { none: 0, ascending: 1, descending: -1 }[next];
  body.append(...(sign ? sorted([...original], header.cellIndex, sign) : original));
  said.textContent = sign ? `Sorted by ${header.textContent}, ${next}.` : "Rows in their first order.";
}

function addFilter(sheet, body, total) {
  const label = document.createElement("label"), input = document.createElement("input"), count = document.createElement("span");
  label.className = "filter";
  input.type = "search";
  input.placeholder = "text in a row";
  label.append("Filter rows", input, count);
  sheet.prepend(label);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const content = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${total} rows` : "";
    said.textContent = count.textContent;
  });
}

for (const sheet of document.querySelectorAll("[data-sheet]")) {
  const table = sheet.querySelector("table"), body = table.tBodies[0], original = [...body.rows];
  if (original.length < 2) continue;
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(header, body, original));
  }
  if (original.length > 4) addFilter(sheet, body, original.length);
}

async function copy(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here: the text is at least selected
    return false;
  }
}

for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button"), code = command.querySelector("code");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy ${code.textContent}`);
  command.append(button);
  button.addEventListener("click", async () => {
    const isCopied = await copy(code);
    said.textContent = isCopied ? "Copied." : "Selected; copy it with the keyboard.";
    button.textContent = isCopied ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// Each small picture is in the page once, however often it is shown.
const album = JSON.parse(document.getElementById("album").textContent);
for (const image of document.querySelectorAll("[data-shot]")) image.src = album[image.dataset.shot];

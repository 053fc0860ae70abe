"use strict";
// Rows come as columns of JSON; the page holds a hundred of them at a time.
(() => {
  const data = JSON.parse(document.getElementById("rows").textContent);
  const columns = data.columns;
  const count = data.values.length ? data.values[0].length : 0;
  const size = 100;
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const search = document.getElementById("search");
  const status = document.getElementById("status");
  const shown = document.getElementById("shown");
  const back = document.getElementById("back");
  const on = document.getElementById("on");
  const at = Object.fromEntries(columns.map((column, number) => [column.name, number]));
  const texts = columns.map((column, number) => (column.text ? number : -1)).filter((n) => n >= 0);
  const haystack = Array.from({ length: count }, (_, row) =>
    texts.map((column) => data.values[column][row] || "").join("\n").toLowerCase());
  let chosen = [];
  let page = 0;
  let sorted = { column: -1, up: true };

  const cell = (column, value) => {
    const td = document.createElement("td");
    if (column.text) td.className = "text";
    // As text, never as markup: names come from strangers.
    td.textContent = value === null ? "" : column.text ? value
      : column.digits ? Number(value).toFixed(column.digits) : String(value);
    return td;
  };

  const draw = () => {
    const first = page * size;
    const rows = chosen.slice(first, first + size).map((row) => {
      const tr = document.createElement("tr");
      tr.append(...columns.map((column, number) => cell(column, data.values[number][row])));
      return tr;
    });
    body.replaceChildren(...rows);
    const last = Math.min(first + size, chosen.length);
    shown.textContent = chosen.length ? `${first + 1} to ${last} of ${chosen.length}` : "no rows";
    back.disabled = page === 0;
    on.disabled = last >= chosen.length;
  };

  const order = () => {
    const { column, up } = sorted;
    if (column < 0) return;
    const values = data.values[column];
    const text = columns[column].text;
    chosen.sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // always last
      const found = text ? (x < y ? -1 : x > y ? 1 : 0) : x - y;
      return (up ? found : -found) || a - b;
    });
  };

  const choose = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = status.value;
    chosen = [];
    for (let row = 0; row < count; row += 1) {
      if (wanted && data.values[at.status][row] !== wanted) continue;
      if (words.every((word) => haystack[row].includes(word))) chosen.push(row);
    }
    page = 0;
    order();
    draw();
  };

  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const column = head.cellIndex;
    sorted = { column, up: sorted.column === column ? !sorted.up : true };
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
    page = 0;
    order();
    draw();
  });
  search.addEventListener("input", choose);
  status.addEventListener("change", choose);
  back.addEventListener("click", () => { page -= 1; draw(); });
  on.addEventListener("click", () => { page += 1; draw(); });
  choose();
})();

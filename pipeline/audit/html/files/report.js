"use strict";
{
  // Without this script the page has the same content: it only sorts and filters the table of databases.
  const table = document.getElementById("overview");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const key = (row, column) => row.cells[column].dataset.key;

  for (const head of table.tHead.rows[0].cells) {
    if (!head.dataset.kind) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const column = head.cellIndex;
      const down = head.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.ariaSort = down ? "descending" : "ascending";
      const compare = head.dataset.kind === "number" ? (a, b) => a - b : (a, b) => a.localeCompare(b);
      rows.sort((a, b) => compare(key(a, column), key(b, column)) * (down ? -1 : 1));
      body.append(...rows);
    });
  }

  const tools = document.getElementById("tools");
  const filter = document.getElementById("filter");
  const found = document.getElementById("found");
  const bad = document.getElementById("bad");
  const show = () => {
    const wanted = filter.value.toLowerCase();
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted) || (bad.checked && row.dataset.worst === "3");
      count += !row.hidden;
    }
    found.textContent = `${count} of ${rows.length} shown`;
  };
  filter.addEventListener("input", show);
  bad.addEventListener("change", show);
  document.getElementById("unfold").addEventListener("click", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
  tools.hidden = false;
  show();
}

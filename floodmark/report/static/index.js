"use strict";

// Shows the runs that fit all filters. What was chosen stands in the address, so that it can be sent and kept.

const form = document.querySelector(".filters");
const rows = [...document.querySelectorAll(".runs tbody tr")];

function narrow() {
  const chosen = [...new FormData(form)].filter(([, value]) => value);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !chosen.every(([name, value]) => row.dataset[name] === value);
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = chosen.length ? `${shown} of ${rows.length} rows are shown.` : "";
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
}

if (form) {
  form.hidden = false;
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  form.addEventListener("change", narrow);
  form.addEventListener("reset", () => setTimeout(narrow)); // after the browser has reset it
  narrow();
}

// Without this script everything works, too: the figures are those of the moment when the page was loaded.
"use strict";

const live = document.querySelector("[data-live]");
if (live && window.EventSource) {
  const stop = document.getElementById("stop");
  let events = null;
  const begin = () => {
    events = new EventSource(live.dataset.live);
    events.onmessage = (event) => {
      // Whoever is on a link by keyboard stays on it, and who scrolled a table stays where that was.
      const at = document.activeElement && live.contains(document.activeElement)
        ? document.activeElement.getAttribute("href") : null;
      const left = live.querySelector(".wide")?.scrollLeft ?? 0;
      live.innerHTML = event.data;
      const table = live.querySelector(".wide");
      if (table) table.scrollLeft = left;
      if (at) [...live.querySelectorAll("a")].find((link) => link.getAttribute("href") === at)?.focus();
    };
    stop.textContent = "Stop updating";
  };
  stop.hidden = false;
  stop.addEventListener("click", () => {
    if (events) {
      events.close();
      events = null;
      stop.textContent = "Go on updating";
    } else {
      begin();
    }
  });
  begin();
}

const all = document.getElementById("all");
if (all) {
  all.hidden = false;
  all.addEventListener("click", () => {
    const boxes = [...document.querySelectorAll("input[name=message]")];
    const every = boxes.every((box) => box.checked);
    for (const box of boxes) box.checked = !every;
  });
}

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.sure;
  if (question && !window.confirm(question)) event.preventDefault();
});

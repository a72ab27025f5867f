"use strict";

// Shows the page of the accept queue in the tab of that name, and below the form while there are no tabs yet. Locust's page
// draws nothing but tables in tabs that are not its own, so it is put there inside a frame; the address names the tab.

(() => {
  const frame = document.createElement("iframe");
  frame.title = "Accept queue";
  frame.style.cssText = "display: none; width: 100%; height: 600px; border: 0";

  const isDark = () => {
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    return red + green + blue < 384;
  };

  function show() {
    const tabs = document.querySelector("[role=tablist]");
    const place = (tabs || document.querySelector("form"))?.closest(".MuiContainer-root");
    const wanted = Boolean(place) && (!tabs || new URLSearchParams(location.search).get("tab") === "accept-queue");
    if (wanted && frame.parentNode !== place) place.append(frame);
    if (wanted && !frame.src) frame.src = "./accept-queue/";
    frame.style.display = wanted ? "block" : "none";
    const inside = frame.contentDocument && frame.contentDocument.documentElement;
    const theme = isDark() ? "dark" : "light";
    if (inside && inside.dataset.theme !== theme) inside.dataset.theme = theme;
  }

  new MutationObserver(show).observe(document.documentElement, { childList: true, subtree: true, attributes: true });
})();

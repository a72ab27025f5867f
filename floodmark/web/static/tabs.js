"use strict";

// Shows the pages of the accept queue and of the access log in the tabs of these names, and the first of them below the form
// while there are no tabs yet. Locust's page draws nothing but tables in tabs that are not its own, so each page is put there
// inside a frame; the address names the tab.

(() => {
  const frames = Object.entries({ "accept-queue": "Accept queue", "access-log": "Access log" }).map(([key, title]) => {
    const frame = document.createElement("iframe");
    frame.title = title;
    frame.style.cssText = "display: none; width: 100%; height: max(600px, 80vh); border: 0";
    return [key, frame];
  });

  const isDark = () => {
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    return red + green + blue < 384;
  };

  function show() {
    const tabs = document.querySelector("[role=tablist]");
    const place = (tabs || document.querySelector("form"))?.closest(".MuiContainer-root");
    const wanted = tabs ? new URLSearchParams(location.search).get("tab") : "accept-queue";
    for (const [key, frame] of frames) showFrame(frame, key, place, Boolean(place) && key === wanted);
  }

  function showFrame(frame, key, place, isWanted) {
    if (isWanted && frame.parentNode !== place) place.append(frame);
    if (isWanted && !frame.src) frame.src = `./${key}/`;
    frame.style.display = isWanted ? "block" : "none";
    const inside = frame.contentDocument && frame.contentDocument.documentElement;
    const theme = isDark() ? "dark" : "light";
    if (inside && inside.dataset.theme !== theme) inside.dataset.theme = theme;
  }

  new MutationObserver(show).observe(document.documentElement, { childList: true, subtree: true, attributes: true });
})();

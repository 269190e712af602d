// Before anything is painted: the colours that were chosen, so that a dark room stays dark while the page loads.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // a browser that keeps nothing gets the device's colours
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  document.documentElement.dataset.scripted = "yes";
})();
